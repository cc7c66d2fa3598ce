"""`mlx-export`: a checkpoint as a folder that mlx-lm's own commands take as it is."""
