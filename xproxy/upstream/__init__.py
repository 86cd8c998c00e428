"""Which endpoint."""
