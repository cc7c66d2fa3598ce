"""How a process confines itself on macOS. Not exercised on a Mac yet."""
