"""A plan before the run: how much memory every role will take, and how long a step will."""
