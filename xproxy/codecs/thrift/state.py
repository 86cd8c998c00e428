"""What a connection owes: to a client the answers, in an order it understands; from a server those we wait for.

Rules of this file:

* A client may give every call the same sequence id, and match answers by their order (PyPI's thrift and many others
  do). From the moment two calls that wait have one id, the answers of that connection leave in the order of the
  calls. Before that they leave as they come: whoever gives ids of their own matches by them.
* An answer that must wait for another one is bytes already. What waits is bounded: by ``max_streams`` calls, and by
  ``max_message_bytes`` in all, above which new calls are refused until it has gone.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from xproxy.codecs.message_wire import Malformed
from xproxy.codecs.thrift.dialect import Dialect
from xproxy.codecs.thrift.encoding import MASK
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.model.limits import Limits

SPARE: Final = MASK + 1
"""Stream ids of calls whose sequence id says nothing: it is in the lower 32 bits, and above them a number."""


MAX_ONEWAYS: Final = 1024
"""Oneway calls of a connection whose answers, if the server sends some, are known as theirs. An answer to an older
one ends the connection."""
_HIGHEST: Final = 0x7FFFFFFF

_REFUSALS: Final = 4
"""In order, a refusal waits like any answer: of those that are too many, the fourth part may."""


@attrs.frozen
class Waiting:
    """A call that is owed an answer, as a snapshot has it."""

    stream_id: int
    """Its lower 32 bits are the sequence id: that of the THeader, where there is one."""
    inner: int
    """The sequence id in its payload."""
    extra: ThriftExtra
    ready: bytes | None
    """The answer, which waits for its turn."""


class Answers:
    """The calls of a client that are owed an answer, in their order.

    A call's stream id is its sequence id if that is above all before it, and if not, a spare one (``SPARE``): so it
    does not depend on which calls have been answered meanwhile.
    """

    __slots__ = (
        "_highest",
        "_inner",
        "_limits",
        "_order",
        "_ready",
        "_repeated",
        "_spare",
        "_waiting_bytes",
        "owed",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.owed: dict[int, ThriftExtra] = {}
        """Of the calls that wait, by stream id."""
        self._inner: dict[int, int] = {}  # sequence ids of payloads, where a THeader has another
        self._repeated: set[int] = set()  # sequence ids of calls that wait under a spare id
        self._order: deque[int] | None = None  # None: any order will do
        self._ready: dict[int, bytes] = {}
        self._waiting_bytes = 0
        self._highest = -1
        self._spare = 1

    @property
    def ordered(self) -> bool:
        """Whether answers leave in the order of the calls."""
        return self._order is not None

    @property
    def plain(self) -> bool:
        """Whether answers leave at once, and their calls have one sequence id each."""
        return self._order is None and not self._inner and not self._repeated

    @property
    def last_ids(self) -> tuple[int, int]:
        """The highest sequence id so far (-1: none), and the number of the next spare stream id."""
        return self._highest, self._spare

    def ask(self, outer: int, inner: int, extra: ThriftExtra) -> int:
        """Note a call; returns its stream id."""
        owed = self.owed
        if outer > self._highest:
            self._highest = stream_id = outer
        else:
            if self._order is None:
                if outer in owed or outer in self._repeated:
                    self._order = deque(owed)
                    self._repeated.clear()
                else:
                    self._repeated.add(outer)
            stream_id = self._spare_id(outer)
        owed[stream_id] = extra
        if inner != outer:
            self._inner[stream_id] = inner
        if self._order is not None:
            self._order.append(stream_id)
        return stream_id

    def oneway(self, outer: int) -> int:
        """Return a stream id for a call that is owed nothing."""
        if outer > self._highest:
            self._highest = outer
            return outer
        return self._spare_id(outer)

    def _spare_id(self, outer: int) -> int:
        stream_id = self._spare * SPARE + outer
        self._spare = self._spare % MASK + 1  # a snapshot has 64 bits for the stream id
        return stream_id

    @property
    def refusing(self) -> bool:
        """Whether a call more would be too many. Raises Malformed if the refusals that wait are too many, too."""
        waiting, most = len(self.owed), self._limits.max_streams
        if waiting > most + most // _REFUSALS:
            raise Malformed(f"more than {waiting - 1} calls wait for an answer")
        return waiting >= most or self._waiting_bytes > self._limits.max_message_bytes

    def inner(self, stream_id: int) -> int:
        """Return the sequence id in a call's payload."""
        return self._inner.get(stream_id, stream_id & MASK)

    def leave(self, stream_id: int, answer: bytes) -> bytes:
        """Take the answer to a call that waits; returns all bytes whose turn it is now."""
        order = self._order
        if order is None:
            self._forget(stream_id)
            return answer
        if stream_id in self._ready:
            return b""  # it has been answered
        if order[0] != stream_id:
            self._ready[stream_id] = answer
            self._waiting_bytes += len(answer)
            return b""
        order.popleft()
        self._forget(stream_id)
        if not order or order[0] not in self._ready:
            return answer
        leaving = [answer]
        while order and order[0] in self._ready:
            first = order.popleft()
            self._forget(first)
            leaving.append(self._ready.pop(first))
            self._waiting_bytes -= len(leaving[-1])
        return b"".join(leaving)

    def _forget(self, stream_id: int) -> None:
        del self.owed[stream_id]
        if self._inner:
            self._inner.pop(stream_id, None)
        if stream_id > MASK and self._order is None:
            self._repeated.discard(stream_id & MASK)

    def save(self) -> list[Waiting]:
        """Return all that wait, in the order of their calls."""
        ready = self._ready.get
        return [
            Waiting(stream_id, self.inner(stream_id), extra, ready(stream_id))
            for stream_id, extra in self.owed.items()
        ]

    def load(self, waiting: list[Waiting], *, ordered: bool, highest: int, spare: int) -> None:
        """Go on as those that were saved. Raises ValueError where they contradict each other."""
        outers: set[int] = set()
        for call in waiting:
            stream_id, outer = call.stream_id, call.stream_id & MASK
            if stream_id in self.owed or outer > highest or stream_id >= SPARE * SPARE:
                raise ValueError("two calls have one stream id, or one has an id not given yet")
            if not ordered and (outer in outers or call.ready is not None):
                raise ValueError(
                    "calls with one sequence id, or an answer that waits, without order"
                )
            if call.ready is not None and call is waiting[0]:
                raise ValueError("an answer waits for no other")
            outers.add(outer)
            self.owed[stream_id] = call.extra
            if call.inner != outer:
                self._inner[stream_id] = call.inner
            if stream_id > MASK and not ordered:
                self._repeated.add(outer)
            if call.ready is not None:
                self._ready[stream_id] = call.ready
                self._waiting_bytes += len(call.ready)
        self._order = deque(self.owed) if ordered else None
        self._highest, self._spare = highest, spare


class Calls:
    """The calls we made that wait for their answer, by sequence id, and the oneway ones that none should come to.

    Every call of a connection has an id of its own: so an answer that comes late, twice or to a oneway call is never
    taken for another call's. A server may not know that a call is oneway and answer all the same: that answer is
    nobody's.
    """

    __slots__ = ("asked", "last_id", "oneways")

    def __init__(self) -> None:
        self.asked: dict[int, Dialect] = {}
        self.oneways: dict[int, None] = {}
        """The last ``MAX_ONEWAYS`` at most, oldest first."""
        self.last_id = 0
        """Given by ``next_id``."""

    def next_id(self) -> int:
        """Return an id that no call before it has had. Positive in 32 bits, as servers may keep it in an i32."""
        self.last_id = self.last_id % _HIGHEST + 1
        return self.last_id

    def told(self, seqid: int) -> None:
        """Note a oneway call."""
        self.oneways[seqid] = None
        if len(self.oneways) > MAX_ONEWAYS:
            del self.oneways[next(iter(self.oneways))]

    def answered(self, seqid: int, dialect: Dialect) -> bool:
        """Note an answer; False: it is nobody's.

        Raises Malformed for one to no call of ours, or in a dialect that does not answer it.
        """
        asked = self.asked.pop(seqid, None)
        if asked is None:
            if seqid in self.oneways:
                del self.oneways[seqid]
                return False
            raise Malformed(f"an answer to the call {seqid}, which waits for none")
        if asked is not dialect and not asked.answered_by(dialect):
            raise Malformed(
                f"an answer in {dialect.transport.value} {dialect.protocol.value} to a call in"
                f" {asked.transport.value} {asked.protocol.value}"
            )
        return True
