"""gRPC: what its messages mean on top of HTTP, as pure functions. The HTTP codecs use them; it is no codec itself."""
