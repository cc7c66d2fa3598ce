"""`mlx-eval`: evaluators on a model, or on given completions, without a training."""
