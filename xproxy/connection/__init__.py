"""One socket and one codec."""
