"""Confined workers on Linux: bubblewrap, and what the kernel tells of them."""
