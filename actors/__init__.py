"""Prompts -> completions with behaviour logprobs: many processes, each with a policy copy."""

from protocol.blas import preload_blas

preload_blas()  # before any module of this package imports mlx
