"""What an upgrade under load costs: ``python -m bench.takeover --help``."""
