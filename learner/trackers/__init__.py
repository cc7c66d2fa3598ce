"""Built-in trackers: one file each. learner/tracker.py says what a tracker is."""
