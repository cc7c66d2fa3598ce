"""Scored rollouts -> weights: the one process that trains, and the only one that binds ports."""

from protocol.blas import preload_blas

preload_blas()  # before any module of this package imports mlx
