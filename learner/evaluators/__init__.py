"""Built-in evaluators: one file each. learner/evaluator.py says what an evaluator is."""
