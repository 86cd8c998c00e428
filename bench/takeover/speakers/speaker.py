"""What the load needs of a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import attrs

NONCE_BYTES = 16


@attrs.frozen
class Answer:
    """What came for a request."""

    number: int
    """Of the request on its connection, from 0."""
    failed: str = ""
    """What the peer said instead of an answer."""
    mismatch: str = ""
    """How the answer is another one than was due."""


class Broken(Exception):
    """What came is not the protocol, or ends the connection; nothing more can be asked on it."""


class Speaker(Protocol):
    """One connection of a client, after TLS if there is any."""

    @property
    def serial(self) -> bool:
        """Whether a request may be asked only when the one before is answered."""

    @property
    def ready(self) -> bool:
        """Whether requests may be asked already."""

    def begin(self) -> bytes:
        """Return what is sent first."""

    def ask(self, number: int) -> bytes:
        """Return the bytes of a request that nobody else sends."""

    def receive(self, data: bytes) -> tuple[Sequence[Answer], bytes]:
        """Take what came; return what it answers, and what is owed to the peer now.

        Raises:
            Broken: nothing more can be asked.
        """


@runtime_checkable
class Turning(Protocol):
    """A speaker with something that lasts as long as the connection, unless it is told to begin it anew."""

    def turn(self) -> bytes:
        """End it and begin another; return what is to be sent for that. Raises Broken."""


def nonce(connection: int, number: int) -> bytes:
    """Return 16 digits that no other request of the run has."""
    return b"%06x%010x" % (connection & 0xFFFFFF, number)


def content(connection: int, number: int, size: int) -> bytes:
    """Return ``size`` bytes that begin with the nonce and differ all along from those of other requests."""
    unit = nonce(connection, number)
    return (unit * (size // NONCE_BYTES + 1))[:size]


def judged(number: int, due: bytes, got: bytes) -> Answer:
    """Compare an answer with what was due."""
    if got == due:
        return Answer(number)
    if len(got) != len(due):
        return Answer(number, mismatch=f"{len(got)} bytes, not {len(due)}")
    at = next(i for i, (a, b) in enumerate(zip(got, due, strict=True)) if a != b)
    return Answer(number, mismatch=f"another byte at {at}: {got[at : at + 16]!r}")
