"""Runs of tiny pieces that all look alike: a body in single bytes is read column by column, not piece by piece.

A piece is a head, some bytes, and a tail. Who cuts a body into bytes says the same head and tail again and again;
with a stride, one slice holds the n-th byte of every piece, so that a run costs some nanoseconds a byte.
"""

from __future__ import annotations

import sys
from typing import Final

TINY: Final = 16
"""Bytes of a piece up to which it is worth looking for a run …"""
BLOCK: Final = 32
"""… of so many at least."""


def run_length(
    data: bytes, position: int, head: bytes, size: int, tail: bytes = b"", most: int = sys.maxsize
) -> int:
    """Return how many pieces with ``size`` bytes between ``head`` and ``tail`` are at ``position``.

    A multiple of ``BLOCK``: what is left over is for whoever reads piece by piece. ``most``: so many can be taken;
    who looked at more, and then refused the run, would look at it again with every piece.
    """
    unit = len(head) + size + len(tail)
    count = 0
    end = min(len(data), position + most * unit)
    while position + BLOCK * unit <= end:
        stop = position + BLOCK * unit
        for at, byte in enumerate(head):
            if data[position + at : stop : unit].count(byte) != BLOCK:
                return count
        for at, byte in enumerate(tail, len(head) + size):
            if data[position + at : stop : unit].count(byte) != BLOCK:
                return count
        count += BLOCK
        position = stop
    return count


def joined(data: bytes, position: int, count: int, before: int, size: int, after: int = 0) -> bytes:
    """Return the bytes of ``count`` pieces, each ``before`` + ``size`` + ``after`` bytes long."""
    unit = before + size + after
    first = position + before
    stop = position + count * unit
    if size == 1:
        return data[first:stop:unit]
    body = bytearray(count * size)
    for at in range(size):
        body[at::size] = data[first + at : stop : unit]
    return bytes(body)
