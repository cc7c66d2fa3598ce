"""Policy versions on their way out of training: packed, shared and encoded in threads."""
