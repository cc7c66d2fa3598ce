"""Prompts: sources -> rows -> token ids, in an order without end."""
