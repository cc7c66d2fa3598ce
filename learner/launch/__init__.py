"""mlx-train: a whole run on this machine, every role of the Procfile a process of its own."""
