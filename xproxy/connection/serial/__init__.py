"""One stream at a time on a connection: HTTP/1.1, Thrift and L4."""
