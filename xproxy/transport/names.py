"""Looking up names on threads of its own: one that hangs takes no thread from anybody, and one thread of its own.

The system's resolver (getaddrinfo(3)) blocks, and cannot be stopped. So whoever waits for it can give up, while the
thread goes on; and whoever asks for a name that is being looked up waits for the same answer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import attrs
import trio

MOST_LOOKUPS: Final = 64
"""Threads that look names up at a time; beyond it a name fails at once."""
MOST_OF_A_NAME: Final = 2
"""… of which so many look up the same name, the second after …"""
PATIENCE_SECONDS: Final = 10.0
"""… so long without an answer."""

Found: TypeAlias = Sequence[tuple[socket.AddressFamily, str, int]]
"""Family, address and port of each address behind a name."""


def system_lookup(host: str, port: int) -> Found:
    """Ask the system. Blocks. Raises OSError."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, str(where[0]), int(where[1])) for family, _, _, _, where in answers]


@attrs.define(eq=False)
class _Lookup:
    """A name that is being looked up."""

    begun: float
    """Trio clock."""
    done: trio.Event = attrs.field(factory=trio.Event)
    found: Found = ()
    error: Exception | None = None


class Resolver:
    """Looks names up. One in a process."""

    __slots__ = ("_lookup", "_under_way", "threads")

    def __init__(self, lookup: Callable[[str, int], Found] = system_lookup) -> None:
        """Use ``lookup``, which may block, and raises OSError."""
        self._lookup = lookup
        self._under_way: dict[tuple[str, int], list[_Lookup]] = {}
        self.threads = 0
        """At work."""

    async def find(self, host: str, port: int) -> Found:
        """Return the addresses behind a name. Cancelling gives up waiting only. Raises OSError."""
        key = host, port
        now = trio.current_time()
        lookups = self._under_way.get(key)
        lookup = lookups[-1] if lookups is not None else None
        if lookup is None or (
            lookups is not None
            and now - lookup.begun >= PATIENCE_SECONDS
            and len(lookups) < MOST_OF_A_NAME
        ):
            if self.threads >= MOST_LOOKUPS:
                raise OSError(f"{MOST_LOOKUPS} names are being looked up already")
            lookup = _Lookup(now)
            self._under_way.setdefault(key, []).append(lookup)
            self._start(key, lookup)
        await lookup.done.wait()
        if lookup.error is not None:
            raise OSError(_reason(lookup.error)) from lookup.error
        return lookup.found

    def _start(self, key: tuple[str, int], lookup: _Lookup) -> None:
        token = trio.lowlevel.current_trio_token()
        self.threads += 1

        def ended() -> None:
            self.threads -= 1
            lookups = self._under_way[key]
            lookups.remove(lookup)
            if not lookups:
                del self._under_way[key]
            lookup.done.set()

        def work() -> None:
            # In the thread. Whatever comes out of the resolver is for those who wait.
            try:
                lookup.found = self._lookup(*key)
            except Exception as exc:
                lookup.error = exc
            try:
                token.run_sync_soon(ended)
            except trio.RunFinishedError:
                pass  # nobody waits any more

        trio.lowlevel.start_thread_soon(work, lambda _: None, name=f"name {key[0]}")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


_in_run: Final[trio.lowlevel.RunVar[Resolver]] = trio.lowlevel.RunVar("xproxy resolver")


def resolver() -> Resolver:
    """Return the resolver of this run of Trio."""
    try:
        return _in_run.get()
    except LookupError:
        found = Resolver()
        _in_run.set(found)
        return found


def use_resolver(other: Resolver) -> None:
    """Put another resolver in place for this run of Trio."""
    _in_run.set(other)
