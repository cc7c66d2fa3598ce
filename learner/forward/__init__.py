"""Prompts and completions -> logprobs, entropies and values, with gradients, in little memory.

trunk.py       a model as trunk (tokens -> hidden states) and head (hidden states -> logits)
prompts.py     one pass over a prompt for all of its completions
recompute.py   gradient checkpointing of a layer, shared prompts included
logprobs.py    logprobs and entropies in chunks of tokens
forward.py     the four together
"""
