"""gRPC-Web: trailers as the last piece of a body, and bodies as base64 (grpc/doc/PROTOCOL-WEB.md)."""

from __future__ import annotations

import binascii
from typing import Final

from xproxy.codecs.grpc.framing import TRAILERS, NotMessages, frame
from xproxy.model.headers import Headers

_BLANKS: Final = b" \t\r\n"


def trailer_frame(headers: Headers) -> bytes:
    """Return the frame that holds trailers, names in lower case. A line break in a value becomes a blank."""
    lines = [
        f"{name.lower()}: {value}".replace("\r", " ").replace("\n", " ") + "\r\n"
        for name, value in headers.pairs
    ]
    return frame("".join(lines).encode("latin-1", "replace"), TRAILERS)


def parse_trailers(payload: bytes) -> Headers:
    """Read the payload of a trailer frame. Total: a line without a colon is left out."""
    pairs = []
    for line in payload.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            pairs.append((name.strip().lower(), value.strip()))
    return Headers(pairs)


def encode_piece(data: bytes) -> bytes:
    """Return a piece of a text body: padded by itself, so that nothing waits for the next one."""
    return binascii.b2a_base64(data, newline=False)


class TextReader:
    """Undoes base64 as it comes. Pieces may have been padded apart from one another. Holds 3 characters at most."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece of text and return the bytes that are whole now. Raises NotMessages."""
        text = self._rest + data.translate(None, _BLANKS)
        cut = len(text) & ~3
        self._rest = text[cut:]
        text = text[:cut]
        if b"=" not in text[:-2]:
            return _decode(text)
        # Padding inside: each quartet that has some ends a part.
        parts: list[bytes] = []
        start = 0
        while (mark := text.find(b"=", start)) >= 0:
            end = (mark | 3) + 1
            parts.append(_decode(text[start:end]))
            start = end
        parts.append(_decode(text[start:]))
        return b"".join(parts)

    def finish(self) -> None:
        """Take the end of the text. Raises NotMessages in the middle of a quartet."""
        if self._rest:
            raise NotMessages("the body ends in the middle of a base64 group")


def _decode(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as exc:
        raise NotMessages("the body is not base64") from exc
