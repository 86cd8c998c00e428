r"""Scripts with arrows: who sends what, and who must get what, in order.

(idea: mitmproxy:test/mitmproxy/proxy/tutils.py)

    client, upstream = Party("client", left), Party("upstream", right)
    await play(
        client >> b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        upstream << re.compile(rb"GET / HTTP/1\.1\r\n.*?\r\n\r\n", re.S),
        upstream >> b"HTTP/1.1 204 No Content\r\n\r\n",
        client << re.compile(rb"HTTP/1\.1 204.*?\r\n\r\n", re.S),
        client << NOTHING,
    )

Each arrow is asserted before the next one is tried. The parties hold any Trio stream: a socket, or one end of a pair
in memory; with a ``MockClock`` that jumps by itself no arrow takes real time.
"""

from __future__ import annotations

import enum
import re
from typing import Final, Protocol, TypeAlias

import attrs
import trio

_SHOWN_BYTES: Final = 300


class Endpoint(Protocol):
    """What a script needs of a stream."""

    async def send_all(self, data: bytes) -> None:
        """Send all of ``data``."""
        ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what has come; empty at the end."""
        ...


class Event(enum.Enum):
    """What can come instead of bytes."""

    END = "the end of the input"
    BROKEN = "a broken connection"
    NOTHING = "nothing"


END: Final = Event.END
"""The other side has finished, and no byte is left over."""
BROKEN: Final = Event.BROKEN
"""The connection was reset."""
NOTHING: Final = Event.NOTHING
"""Not a byte, and no end, for ``Party.quiet`` seconds."""

Expected: TypeAlias = "bytes | re.Pattern[bytes] | Event"


class ScriptFailed(AssertionError):
    """An arrow did not hold: names it by its place, and shows what came instead."""


@attrs.define(eq=False)
class Party:
    """One end of a connection under the script's control."""

    name: str
    stream: Endpoint
    timeout: float = 60.0
    """Seconds to wait for what is expected. Long, as a test machine may be busy: only a failure waits for it."""
    quiet: float = 0.05
    """Seconds without a byte that count as ``NOTHING``."""
    received: bytearray = attrs.field(factory=bytearray)
    """What came, and no arrow has asked for yet."""

    def __rshift__(self, data: bytes) -> Step:
        return Step(self, sends=data)

    def __lshift__(self, expected: Expected) -> Step:
        return Step(self, expects=expected)

    async def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        await self.stream.send_all(data)

    async def expect(self, expected: Expected) -> bytes:
        """Wait for ``expected`` and return what matched. Raises ScriptFailed."""
        came: Event | None = None
        try:
            with trio.fail_after(self.quiet if expected is NOTHING else self.timeout):
                while (size := self._matched(expected)) is None and came is None:
                    came = await self._more()
        except trio.TooSlowError:
            if expected is NOTHING and not self.received:
                return b""
            raise self._failed(expected, "nothing more came") from None
        if size is not None:
            matched = bytes(self.received[:size])
            del self.received[:size]
            return matched
        if came is expected and not self.received:
            return b""
        raise self._failed(expected, came.value if came is not None else "more came")

    async def _more(self) -> Event | None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return BROKEN
        self.received += data
        return None if data else END

    def _matched(self, expected: Expected) -> int | None:
        """Return how many bytes match. Raises ScriptFailed as soon as they cannot match any more."""
        if isinstance(expected, Event):
            if self.received:
                raise self._failed(expected, "bytes came")
            return None
        if isinstance(expected, bytes):
            if not expected.startswith(self.received[: len(expected)]):
                raise self._failed(expected, "other bytes came")
            return len(expected) if len(self.received) >= len(expected) else None
        match = expected.match(self.received)
        return match.end() if match is not None else None

    def _failed(self, expected: Expected, instead: str) -> ScriptFailed:
        wanted = expected.value if isinstance(expected, Event) else repr(expected)
        got = bytes(self.received[:_SHOWN_BYTES])
        return ScriptFailed(f"{self.name} should get {wanted}, but {instead}; unread: {got!r}")


@attrs.frozen
class Step:
    """One arrow."""

    party: Party
    sends: bytes | None = attrs.field(default=None, kw_only=True)
    expects: Expected | None = attrs.field(default=None, kw_only=True)

    async def take(self) -> None:
        """Do it. Raises ScriptFailed."""
        if self.sends is not None:
            try:
                await self.party.send(self.sends)
            except trio.BrokenResourceError as exc:
                raise ScriptFailed(f"{self.party.name} cannot send: the connection broke") from exc
        if self.expects is not None:
            await self.party.expect(self.expects)


async def play(*steps: Step) -> None:
    """Take the steps in order; in the end nobody may have got more than was asked for. Raises ScriptFailed."""
    for number, step in enumerate(steps, 1):
        try:
            await step.take()
        except ScriptFailed as exc:
            raise ScriptFailed(f"arrow {number}: {exc}") from exc.__cause__
    for party in dict.fromkeys(step.party for step in steps):
        if party.received:
            got = bytes(party.received[:_SHOWN_BYTES])
            raise ScriptFailed(f"after the last arrow: {party.name} also got {got!r}")
