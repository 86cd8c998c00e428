"""TLS as a byte stream over a byte stream."""
