"""Measure what an upgrade under load costs: ``python -m bench.takeover --help``."""

from __future__ import annotations

import sys

from bench.takeover.command import main

if __name__ == "__main__":
    sys.exit(main())
