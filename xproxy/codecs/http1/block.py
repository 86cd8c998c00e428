"""Blocks: where a head, or the trailers, end in a stream of bytes, and the lines of them (RFC 9112 §2).

Rule of this file: a block is looked at as a whole (one find, one translate, one split), never byte by byte.
"""

from __future__ import annotations

import re
from typing import Final

from xproxy.model.limits import Limits

_BLOCK_END: Final = b"\r\n\r\n"
_STRAY: Final = re.compile(rb"\r[^\n]|(?<!\r)\n")
_LINE_BREAKS: Final = re.compile(rb"[\r\n]")
# Field values may hold HTAB, and bytes above 7F of old encodings; other controls have no business in a head
# (RFC 9110 §5.5 lets us refuse them, and what they do to the next reader is unknown).
_CONTROLS: Final = bytes({*range(32), 127} - {0x09})


class Refused(Exception):
    """The peer broke the protocol. Never leaves the codec: it becomes a Violation."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        """The HTTP status a server answers it with."""
        self.detail = detail


def find_end(source: bytes | bytearray, start: int, searched: int, limit: int) -> int:
    """Return where the block that begins at ``start`` ends, after its empty line; -1 if more bytes are needed.

    Args:
        source: The bytes so far.
        start: Where the block begins.
        searched: Bytes of the block an earlier call has seen already, so that no byte is looked at for every read.
        limit: Longest block, in bytes.

    Raises:
        Refused: 431 above the limit, 400 for a CR or LF that stands alone, as soon as it is there.

    """
    end = source.find(_BLOCK_END, start + max(searched - 3, 0))
    if end >= 0 and end + 4 - start <= limit:
        return end + 4
    if _STRAY.search(source, start + max(searched - 1, 0), start + limit) is not None:
        raise Refused(400, "bare CR or LF in the head")
    if len(source) - start > limit:
        raise Refused(431, f"head is above {limit} bytes")
    return -1


def lines_of(block: bytes, limits: Limits, start_lines: int) -> list[str]:
    """Split a block into its lines, without the two empty ones at its end."""
    content = block.replace(b"\r\n", b"")
    if len(content.translate(None, _CONTROLS)) != len(content):
        if _LINE_BREAKS.search(content) is not None:
            raise Refused(400, "bare CR or LF in the head")
        raise Refused(400, "control character in the head")
    lines = block.decode("latin-1").split("\r\n")
    del lines[-2:]
    if len(lines) - start_lines > limits.max_headers:
        raise Refused(431, f"head has above {limits.max_headers} fields")
    return lines


def bad_field(line: str, name: str) -> Refused:
    if line[:1] in (" ", "\t"):
        return Refused(400, "folded field line (obs-fold)")
    if ":" not in line:
        return Refused(400, "field line without a colon")
    if not name:
        return Refused(400, "field without a name")
    if name[-1] in " \t":
        return Refused(400, "white space between a field name and its colon")
    return Refused(400, "field name is not a token")
