"""Giving every connection to another process, and taking it: see docs/explanation/takeover.md."""
