"""Clients of a protocol without a socket: bytes out for each request, answers out of the bytes that come."""
