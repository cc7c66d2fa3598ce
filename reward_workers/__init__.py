"""Completions -> rewards: many processes that never load mlx."""
