"""TLS as far as it can be read without a key: the ClientHello."""
