"""Write docs/reference from the code: ``make docs``."""

from __future__ import annotations

import pathlib

from xproxy.cli.main import main
from xproxy.cli.reference import cli_reference
from xproxy.codecs.detect import Detected, Detector, NeedMore
from xproxy.config.reference import config_reference, limits_reference
from xproxy.registry import default_registry
from xproxy.testing.foreign import FOREIGN

PAGES = pathlib.Path(__file__).parent / "reference"


def pages() -> dict[str, str]:
    """Return each page's text by its file name."""
    return {
        "cli.md": cli_reference(main),
        "foreign.md": foreign_reference(),
        "config.md": config_reference(default_registry(), "xproxy"),
        "limits.md": limits_reference(),
    }


_FOREIGN = """# Strangers on a port

What the clients of other protocols say first, and what becomes of them on a listener with `codecs: auto` and a
`fallback`: relayed there as raw TCP, at once or after `timeouts.detect_silence` (200ms) where what has come may still
be anybody's. No codec claims one of them. Messages are built from the specification named.

| protocol | begins with | bytes that decide | goes to | form |
|---|---|---|---|---|
"""
_SHOWN = 8
"""Bytes of a message."""


def foreign_reference() -> str:
    """Return the table of what foreign protocols do."""
    detector = Detector(default_registry().codecs())
    rows = []
    for foreign in FOREIGN:
        outcomes = [detector.decide(foreign.data[:size]) for size in range(len(foreign.data) + 1)]
        last = outcomes[-1]
        undecided = sum(isinstance(outcome, NeedMore) for outcome in outcomes)
        if isinstance(last, Detected):
            decided, goes = str(undecided), last.plugin.name
        elif isinstance(last, NeedMore):
            decided, goes = "–", "the fallback, after a silence" if last.faint else "nobody"
        else:
            decided, goes = str(undecided), "the fallback"
        begin = foreign.data[:_SHOWN].hex(" ") + (" …" if len(foreign.data) > _SHOWN else "")
        rows.append(f"| {foreign.name} | `{begin}` | {decided} | {goes} | {foreign.source} |")
    return _FOREIGN + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")
