"""``python -m xproxy``: the command line."""

from __future__ import annotations

from xproxy.cli.main import main

if __name__ == "__main__":
    main()
