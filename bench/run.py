"""Measure xproxy against its peers: ``python bench/run.py --help``."""

from __future__ import annotations

import sys
from pathlib import Path

# A script's own folder is on the path, not the folder above it, which holds the package ``bench``.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.command import main

if __name__ == "__main__":
    sys.exit(main())
