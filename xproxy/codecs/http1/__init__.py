"""HTTP/1.1: a strict codec of our own, so that it is fast and its state can be moved (RFC 9110, 9112)."""
