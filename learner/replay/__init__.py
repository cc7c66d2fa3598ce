"""`mlx-replay`: steps of a run computed again from its folder, and compared with what it says."""
