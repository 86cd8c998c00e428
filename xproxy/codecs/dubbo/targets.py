"""Whether a hessian2 body can name another service than its prefix, judged without walking through it.

The attachments that name a service are text entries of a map, and the bytes of an entry stand together. So if each
``path`` with its length before it is followed by the service of the prefix, wherever it stands, no ``path`` can say
another. A name can also be written in chunks, or letters of it in more bytes than they need, which Java reads; where
the body holds anything that might be such a name, this gives no answer, and the walk decides (``Attachments``).
"""

from __future__ import annotations

import re
from typing import Final

from xproxy.codecs.dubbo.prefix import Prefix
from xproxy.codecs.slices import Work

LONGEST_SEARCH: Final = 1 << 20
"""Of bodies that hold bytes of unusual forms: searched in some 20 ms. Longer ones are walked through."""

_AT_ONCE: Final = 256 * 1024
"""Bytes of a slice …"""
_SEARCHED_AT_ONCE: Final = 32 * 1024
"""… and of one of that search: each takes a millisecond at most."""

_WIDE: Final = bytes((0xC1, 0xE0, *range(0xF0, 0xF8)))
"""First bytes of what a lenient reader may take for a letter of ASCII."""
_WIDE_LETTER: Final = rb"\xc1.|\xe0..|[\xf0-\xf7]..."
_CHUNK: Final = b"R\0"


def _unusual(name: bytes) -> bytes:
    letters = b"".join(b"(?:%c|%b)" % (letter, _WIDE_LETTER) for letter in name)
    return b"%b(?!%b)%b" % (re.escape(bytes((len(name),))), name, letters)


_NAMES: Final = (b"path", b"interface", b"version")
_LONGEST_NAME: Final = 1 + 4 * max(map(len, _NAMES))
"""Bytes that what is searched for may have."""
_search_unusual: Final = re.compile(
    b"|".join(
        # In chunks: the first that holds anything holds the first letter.
        (*map(_unusual, _NAMES), rb"R\0[\x01-\x08](?:[piv]|%b)" % _WIDE_LETTER)
    ),
    re.DOTALL,
).search


def agrees(data: bytes, prefix: Prefix) -> Work[bool]:
    """Tell whether nothing in ``data`` can name another service than ``prefix``; False: perhaps something does.

    ``data`` is all that follows the prefix. Some nanoseconds a byte, of unusual bytes twenty.
    """
    if not prefix.path:
        return False  # its name in chunks would look like an entry
    usual, size = True, len(data)
    for at in range(0, size, _AT_ONCE):
        if at:
            yield
        end = at + _AT_ONCE
        for name, entry in prefix.agreeing:
            found = data.count(name, at, end + len(name) - 1)
            if found and found != data.count(entry, at, end + len(entry) - 1):
                return False
        if usual:
            piece = data[at : end + len(_CHUNK) - 1]
            usual = _CHUNK not in piece and len(piece.translate(None, _WIDE)) == len(piece)
    if usual:
        return True
    if size > LONGEST_SEARCH:
        return False
    for at in range(0, size, _SEARCHED_AT_ONCE):
        if at:
            yield
        if _search_unusual(data, at, at + _SEARCHED_AT_ONCE + _LONGEST_NAME):
            return False
    return True
