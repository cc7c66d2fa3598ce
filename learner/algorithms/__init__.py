"""Algorithms, one file each; a file chooses and names parts, and holds no mathematics."""
