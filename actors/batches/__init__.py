"""The KV caches of the completions that an engine decodes together, in three ways."""
