"""Where reward functions run: killable children of the reward worker, and how they are asked."""
