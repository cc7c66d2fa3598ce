"""Rewards -> advantages, on the host: float64 inside, float32 out.

Knows nothing of models or configs.
"""
