"""Bytes of which each place is known: who gets other ones can say where they begin to differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import attrs

BLOCK_BYTES = 1 << 16
_HEAD_BYTES = 8


class Differs(Exception):
    """Other bytes came than were sent."""


def blocks(seed: int, size: int) -> Iterator[bytes]:
    """Give ``size`` bytes in pieces: of each seed others, and no two blocks alike."""
    rest = hashlib.shake_128(seed.to_bytes(8)).digest(BLOCK_BYTES - _HEAD_BYTES)
    for number in range(-(-size // BLOCK_BYTES)):
        left = size - number * BLOCK_BYTES
        block = number.to_bytes(_HEAD_BYTES) + rest
        yield block if left >= BLOCK_BYTES else block[:left]


def digest(seed: int, size: int) -> str:
    """Return the SHA-256 of what ``blocks`` gives."""
    made = hashlib.sha256()
    for block in blocks(seed, size):
        made.update(block)
    return made.hexdigest()


@attrs.define(eq=False)
class Check:
    """Compares what comes, in pieces of any size, with what ``blocks`` gives."""

    seed: int
    size: int
    taken: int = 0
    _blocks: Iterator[bytes] = attrs.field(init=False)
    _due: memoryview = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._blocks = blocks(self.seed, self.size)
        self._due = memoryview(b"")

    def take(self, data: bytes | bytearray | memoryview) -> None:
        """Compare the next bytes.

        Raises:
            Differs: they are others, or too many.
        """
        got = memoryview(data)
        while got:
            if not self._due:
                self._due = memoryview(next(self._blocks, b""))
                if not self._due:
                    raise Differs(f"more than {self.size} bytes came")
            count = min(len(got), len(self._due))
            if got[:count] != self._due[:count]:
                at = next(i for i in range(count) if got[i] != self._due[i])
                raise Differs(f"another byte at {self.taken + at} of {self.size}")
            got, self._due = got[count:], self._due[count:]
            self.taken += count

    def end(self) -> None:
        """Say that nothing more comes.

        Raises:
            Differs: something is missing.
        """
        if self.taken != self.size:
            raise Differs(f"{self.taken} bytes came of {self.size}")
