"""Protocols that exist for tests: small, and verified by ``check_codec`` like any other."""

from xproxy.testing.fakes.lines import LINES, LinesPlugin
from xproxy.testing.fakes.pieces import PIECES, PiecesPlugin

__all__ = ["LINES", "PIECES", "LinesPlugin", "PiecesPlugin"]
