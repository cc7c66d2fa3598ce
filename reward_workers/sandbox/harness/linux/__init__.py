"""How a process confines itself on Linux."""
