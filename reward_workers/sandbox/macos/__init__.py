"""Confined workers on macOS. Not exercised on a Mac yet."""
