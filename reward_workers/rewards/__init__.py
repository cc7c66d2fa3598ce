"""Reward functions, one file each; a new file here is a new reward."""
