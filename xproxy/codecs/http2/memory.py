"""What one plugin remembers of header blocks, for all its connections: each is read, and written, once.

A block is read on a table, and the same block on the same table is the same message and leads to the same next table:
so both are remembered under (table, block). Those that leave the table as it is recur for as long as a connection
lives. Those that change it recur when a connection begins, as all clients of a kind begin alike, and hardly later;
so they are remembered apart, and for the first few of a connection only, and a client whose every request changes its
table drives out nothing.

A peer that changes its table with every message still says the same things again and again: what a list of fields
means is remembered too, by the list.

Bounds: 1024 blocks that change nothing, 512 that do and 512 lists, for each of requests, responses and trailers, of
at most 1 KiB each, whose lists are at most 2 KiB; 512 written heads, each for at most 16 tables. A full memory is
emptied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

from xproxy.codecs.grpc.call import dialect_of_fields
from xproxy.codecs.http2.block import decode
from xproxy.codecs.http2.faults import Malformed, Oversized
from xproxy.codecs.http2.greeting import greeting
from xproxy.codecs.http2.head import (
    ParsedRequest,
    ParsedResponse,
    parse_request,
    parse_response,
    parse_trailers,
)
from xproxy.codecs.http2.limits import FIRST_TABLE_BYTES, Http2Limits
from xproxy.codecs.http2.outgoing import Outgoing
from xproxy.codecs.http2.table import ENTRY_BYTES, Field, Secret, Table
from xproxy.codecs.memo import Door, IdentityMemo
from xproxy.model.headers import Headers
from xproxy.model.limits import KIB, Limits
from xproxy.model.message import RequestHead, ResponseHead, recurring
from xproxy.model.traits import Role

_BLOCK_BYTES: Final = 1 * KIB
_LIST_BYTES: Final = 2 * KIB
_STEADY: Final = 1024
_MOVING: Final = 512
_LISTS: Final = 512
_ROOTS: Final = 64

MOVES: Final = 16
"""So many changes of its table are remembered of a connection."""

P = TypeVar("P")


class Read(Generic[P]):
    """A block that was read."""

    __slots__ = ("malformed", "parsed", "table")

    def __init__(self, parsed: P | None, malformed: Malformed | None, table: Table) -> None:
        self.parsed = parsed
        self.malformed = malformed
        """Why it is no message, if it is none; the table moves on in any case (RFC 9113 §4.3)."""
        self.table = table
        """The table after it."""


class Blocks(Generic[P]):
    """The blocks of one kind of message."""

    __slots__ = (
        "_list_door",
        "_moving_door",
        "_parse",
        "_recurs",
        "_steady_door",
        "lists",
        "moving",
        "steady",
    )

    def __init__(
        self, parse: Callable[[list[Field]], P], recurs: Callable[[P], object] = lambda _: None
    ) -> None:
        """``recurs`` is told of everything that is remembered."""
        self._parse = parse
        self._recurs = recurs
        self.steady: dict[tuple[Table, bytes], Read[P]] = {}
        """Blocks that leave their table as it is."""
        self.moving: dict[tuple[Table, bytes], Read[P]] = {}
        self.lists: dict[tuple[Field, ...], P] = {}
        """What lists mean that came in a block which changed its table."""
        self._steady_door = Door(_STEADY)
        self._moving_door = Door(_MOVING)
        self._list_door = Door(_LISTS)

    def read(
        self, table: Table, block: bytes, allowed: int, most_bytes: int, *, young: bool
    ) -> Read[P]:
        """Read a block that is not in ``steady``. Raises ConnectionFault."""
        key = (table, block)
        found = self.moving.get(key) if young else None
        if found is not None:
            return found
        try:
            fields, following = decode(block, table, allowed, most_bytes)
        except Oversized as oversized:
            too_long = Malformed(f"header list is above {most_bytes} bytes", 431)
            too_long.dialect = dialect_of_fields(oversized.fields)
            return Read(None, too_long, oversized.table)
        listed = None
        if following is not table and not young:
            # Two lists may be equal and differ in which values must not enter a table: of those none is remembered.
            listed = None if _secret(fields) else tuple(fields)
            parsed = self.lists.get(listed) if listed is not None else None
            if parsed is not None:
                return Read(parsed, None, following)
        try:
            read = Read(self._parse(fields), None, following)
        except Malformed as malformed:
            # It is kept by frames that it knows, by where it was raised.
            return Read(None, malformed.with_traceback(None), following)
        if len(block) <= _BLOCK_BYTES and _small(fields):
            self._keep(read, key, listed, young=young)
        return read

    def _keep(
        self,
        read: Read[P],
        key: tuple[Table, bytes],
        listed: tuple[Field, ...] | None,
        *,
        young: bool,
    ) -> None:
        parsed = read.parsed
        assert parsed is not None
        if listed is not None:
            if self._list_door.admits(self.lists, listed):
                self._recurs(parsed)
                self.lists[listed] = parsed
        elif read.table is key[0]:
            if self._steady_door.admits(self.steady, key):
                self._recurs(parsed)
                self.steady[key] = read
        elif young and self._moving_door.admits(self.moving, key):
            self._recurs(parsed)
            self.moving[key] = read


def _small(fields: list[Field]) -> bool:
    return sum([len(name) + len(value) + ENTRY_BYTES for name, value in fields]) <= _LIST_BYTES


def _secret(fields: list[Field]) -> bool:
    return Secret in [type(value) for _, value in fields]


class Memory:
    """Everything remembered of connections with the same limits."""

    __slots__ = (
        "_restored",
        "_roots",
        "greetings",
        "limits",
        "outgoing",
        "requests",
        "responses",
        "trailers",
    )

    def __init__(self, limits: Limits, own: Http2Limits) -> None:
        def request(fields: list[Field]) -> ParsedRequest:
            return parse_request(fields, limits, extended=own.extended_connect)

        def response(fields: list[Field]) -> ParsedResponse:
            return parse_response(fields, limits)

        def trailer(fields: list[Field]) -> Headers:
            return parse_trailers(fields, limits)

        self.limits = limits
        self.greetings = {role: greeting(role, limits, own) for role in Role}
        """What either role says first."""

        def request_recurs(parsed: ParsedRequest) -> None:
            recurring(parsed.message)

        def response_recurs(parsed: ParsedResponse) -> None:
            recurring(parsed.message)

        self.requests: Blocks[ParsedRequest] = Blocks(request, request_recurs)
        self.responses: Blocks[ParsedResponse] = Blocks(response, response_recurs)
        self.trailers: Blocks[Headers] = Blocks(trailer)
        self.outgoing: IdentityMemo[Outgoing] = IdentityMemo()
        self._restored: WeakValueDictionary[tuple[tuple[Field, ...], int], Table] = (
            WeakValueDictionary()
        )
        self._roots: dict[int, Table] = {FIRST_TABLE_BYTES: Table((), FIRST_TABLE_BYTES)}

    def keep(self, source: object, outgoing: Outgoing) -> Outgoing:
        """Remember what a frozen message is on the wire, if it recurs and is small; return it."""
        # Trailers are Headers; of any other kind of them nobody knows what hangs on it.
        recurs = type(source) is Headers
        if isinstance(source, RequestHead | ResponseHead):
            recurs = source.recurs
        if recurs and outgoing.size <= _LIST_BYTES:
            self.outgoing.put(source, outgoing)
        return outgoing

    def root(self, maximum: int = FIRST_TABLE_BYTES) -> Table:
        """Return the empty table: one for all connections, that they may share what follows."""
        table = self._roots.get(maximum)
        if table is None:
            if len(self._roots) >= _ROOTS:
                return Table((), maximum)
            table = self._roots[maximum] = Table((), maximum)
        return table

    def shared(self, table: Table) -> Table:
        """Return the one table with these entries, of all that were restored: it is what memory goes by."""
        if not table.entries:
            return self.root(table.maximum)
        return self._restored.setdefault((table.entries, table.maximum), table)


class Memories:
    """A plugin's memories, one for each set of limits in use. Bounded: a configuration has few."""

    __slots__ = ("_by_limits", "_own")

    _MOST: Final = 16

    def __init__(self, own: Http2Limits) -> None:
        self._own = own
        self._by_limits: dict[Limits, Memory] = {}

    def get(self, limits: Limits) -> Memory:
        """Return the memory for connections with these limits."""
        memory = self._by_limits.get(limits)
        if memory is None:
            if len(self._by_limits) >= self._MOST:
                self._by_limits.clear()
            memory = self._by_limits[limits] = Memory(limits, self._own)
        return memory
