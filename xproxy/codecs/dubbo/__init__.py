"""Dubbo 2."""
