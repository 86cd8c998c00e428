"""The contenders: each proxy with the configuration that does the same work as the others'."""
