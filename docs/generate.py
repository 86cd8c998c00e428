"""Write docs/reference from the code: ``make docs``."""

from __future__ import annotations

import pathlib

from xproxy.cli.main import main
from xproxy.cli.reference import cli_reference
from xproxy.config.reference import config_reference, limits_reference
from xproxy.registry import default_registry

PAGES = pathlib.Path(__file__).parent / "reference"


def pages() -> dict[str, str]:
    """Return each page's text by its file name."""
    return {
        "cli.md": cli_reference(main),
        "config.md": config_reference(default_registry(), "xproxy"),
        "limits.md": limits_reference(),
    }


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
