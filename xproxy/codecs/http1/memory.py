"""What one plugin remembers of heads, for all its connections: each is parsed, and encoded, once.

Everything remembered is frozen and depends on nothing but its key: only the time it saves can be seen.
Bounds: 1024 request heads, 1024 response heads and 512 encodings, of at most 2 KiB each.
"""

from __future__ import annotations

from typing import Final

from xproxy.codecs.http1.head import ParsedRequest, ParsedResponse, parse_request, parse_response
from xproxy.codecs.http1.wire import Encoded, encode_added, encode_request, encode_response
from xproxy.codecs.memo import Door, HeadMemo
from xproxy.model.limits import Limits
from xproxy.model.message import RequestHead, ResponseHead, recurring

MAX_HEAD_BYTES: Final = 2048
"""Longer heads recur too seldom to be worth their hash."""
_MAX_FIELDS: Final = 64
_MAX_TARGET_BYTES: Final = 1024
_ENTRIES: Final = 1024


def remembered_bytes(limits: Limits) -> int:
    """Return the longest head that may come out of the memory for a connection with these limits.

    What is remembered is so small that every sane limit admits it: then it need not be checked again. A connection
    with tighter limits does without the memory (0).
    """
    if limits.max_headers < _MAX_FIELDS or limits.max_target_bytes < _MAX_TARGET_BYTES:
        return 0
    return min(MAX_HEAD_BYTES, limits.max_head_bytes)


class HeadMemory:
    """Parsed and encoded heads. When a part of it is full, that part is emptied."""

    __slots__ = ("_request_door", "_response_door", "encoded", "requests", "responses")

    def __init__(self) -> None:
        self.requests: dict[bytes, ParsedRequest] = {}
        self.responses: dict[bytes, ParsedResponse] = {}
        self.encoded: HeadMemo[Encoded] = HeadMemo()
        self._request_door = Door(_ENTRIES)
        self._response_door = Door(_ENTRIES)

    def request(self, block: bytes, limits: Limits, longest: int) -> ParsedRequest:
        """Return the parsed request head. Raises Refused."""
        if len(block) > longest:
            return parse_request(block, limits)
        parsed = self.requests.get(block)
        if parsed is None:
            parsed = parse_request(block, limits)
            if parsed.accept:
                return parsed  # its key makes it the only one of its kind
            if (
                parsed.fields <= _MAX_FIELDS
                and len(parsed.message.path) <= _MAX_TARGET_BYTES
                and self._request_door.admits(self.requests, block)
            ):
                recurring(parsed.message)
                self.requests[block] = parsed
        return parsed

    def response(self, block: bytes, limits: Limits, longest: int) -> ParsedResponse:
        """Return the parsed response head. Raises Refused."""
        if len(block) > longest:
            return parse_response(block, limits)
        parsed = self.responses.get(block)
        if parsed is None:
            parsed = parse_response(block, limits)
            if parsed.fields <= _MAX_FIELDS and self._response_door.admits(self.responses, block):
                recurring(parsed.message)
                self.responses[block] = parsed
        return parsed

    def derived(self, message: RequestHead, base: RequestHead) -> bytes | None:
        """Encode a request without body whose head is ``base`` with fields added; None: encode it as a new one.

        A filter that gives each request a field of its own costs only that field. Raises LocalProtocolError.
        """
        known = self.encoded.get(base) or self.encode(base)
        if not known.whole:
            return None
        lines = encode_added(message.added)
        return None if lines is None else b"%b%b\r\n" % (known.prefix, lines)

    def encode(self, message: RequestHead | ResponseHead) -> Encoded:
        """Encode a head that ``encoded`` does not hold yet. Raises LocalProtocolError."""
        new = (
            encode_request(message)
            if isinstance(message, RequestHead)
            else encode_response(message)
        )
        if message.recurs and len(new.prefix) <= MAX_HEAD_BYTES:
            self.encoded.put(message, new)
        return new
