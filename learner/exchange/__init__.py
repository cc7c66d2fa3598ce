"""The exchange thread: everything between the training thread and the peers."""
