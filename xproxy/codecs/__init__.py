"""Bytes to frames and back. Pure."""
