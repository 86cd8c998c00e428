"""xproxy: one port, every protocol, extended in Python."""
