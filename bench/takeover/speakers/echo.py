"""Bytes of no protocol: each request is a length and so many bytes, which must come back as they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs

from bench.takeover.speakers.speaker import Answer, Broken, content, judged

_MARK = b"\xff\xfe"
"""No protocol begins so."""
_HEAD_BYTES = 4
_SIZES = (60, 200, 1400, 17)
"""Bytes of requests, in turn."""


def bytes_of(count: int) -> int:
    """Return how many bytes the first ``count`` requests of a connection are."""
    return sum(_HEAD_BYTES + _SIZES[number % len(_SIZES)] for number in range(count))


@attrs.define(eq=False)
class Echo:
    """See the module."""

    connection: int
    serial: bool = attrs.field(default=False, init=False)
    ready: bool = attrs.field(default=True, init=False)
    _asked: deque[int] = attrs.field(factory=deque, init=False)
    _got: bytearray = attrs.field(factory=bytearray, init=False)

    def begin(self) -> bytes:
        return b""

    def ask(self, number: int) -> bytes:
        self._asked.append(number)
        return self._bytes(number)

    def _bytes(self, number: int) -> bytes:
        size = _SIZES[number % len(_SIZES)]
        return _MARK + size.to_bytes(2) + content(self.connection, number, size)

    def receive(self, data: bytes) -> tuple[Sequence[Answer], bytes]:
        got, answers = self._got, []
        got += data
        while len(got) >= _HEAD_BYTES:
            end = _HEAD_BYTES + int.from_bytes(got[2:_HEAD_BYTES])
            if got[:2] != _MARK:
                raise Broken(f"bytes that nobody sent: {bytes(got[:16])!r}")
            if len(got) < end:
                break
            if not self._asked:
                raise Broken("bytes that nobody asked for")
            number = self._asked.popleft()
            answers.append(judged(number, self._bytes(number), bytes(got[:end])))
            del got[:end]
        return answers, b""
