"""Around one request: the built-in filters, one a file."""
