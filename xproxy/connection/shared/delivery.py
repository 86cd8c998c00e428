"""What older processes say to a client goes out here: as far as its windows and its connection take it.

One for all links of a connection. What does not go at once waits with its stream, which the pump of its link comes
back to; what waits for too long, or is too much, is given up.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import Final

import trio

from xproxy.codecs.api import SupportsRelay, supports
from xproxy.connection.phase import Phase
from xproxy.connection.service import FilterChain
from xproxy.connection.shared.link import Link, Relayed
from xproxy.connection.shared.served import Served
from xproxy.connection.shared.wire import SharedWire
from xproxy.model.errors import LocalProtocolError, Overflow
from xproxy.model.frames import Data, Frame, Head, Reset, Trailers
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.exchange import error_head
from xproxy.stream.held import TOO_MUCH

_logger = logging.getLogger(__name__)

MOST_INTERIM: Final = 4
"""Responses before the response (1xx) of one stream that wait for a client to take them; further ones are dropped."""
_NO_WINDOWS: Final = 1 << 62
"""Bytes: more than any window."""

_LOST: Final = ResponseHead(
    status=Status.UNAVAILABLE,
    extra=Local(detail="the process that served the request has ended"),
)
_TOO_MUCH: Final = error_head(Overflow(TOO_MUCH))
_IDLE: Final = ResponseHead(
    status=Status.DEADLINE_EXCEEDED, extra=Local(detail="nothing moved on the stream")
)
_UNSENDABLE: Final = ResponseHead(
    status=Status.INTERNAL, extra=Local(detail="internal error in the proxy")
)


class Delivery:
    """See the module. Its streams are those of ``by_id``, whatever link they are on."""

    __slots__ = ("_chain", "_served", "_stats", "_wire", "by_id")

    def __init__(self, wire: SharedWire, served: Served, chain: FilterChain) -> None:
        self._wire = wire
        self._served = served
        self._chain = chain
        self._stats = chain.stats
        self.by_id: dict[int, Relayed] = {}
        """Streams that are not over."""
        wire.relayed = self.by_id

    def take(self, relayed: Relayed, frame: Head | Data | Trailers | Reset) -> None:
        """Take what an older process says on a stream; of an answer that is over nothing comes any more."""
        waiting = relayed.waiting
        if self._wire.whole:
            self._of_message(relayed, frame)
            return
        if isinstance(frame, Head) and frame.interim and len(waiting) >= MOST_INTERIM:
            return  # its client does not take them, and the next would say no more
        if not waiting:
            relayed.moved_at = trio.current_time()
        self._wait(relayed, frame)
        if not self._wire.outbox.full and not self._wire.paused:
            self._advance(relayed)
        if waiting:
            relayed.link.ready[relayed.id] = relayed
            self._wire.credit.unpark_all()  # the pump

    def _of_message(self, relayed: Relayed, frame: Head | Data | Trailers | Reset) -> None:
        # It goes to the client once it is whole.
        wire, waiting = self._wire, relayed.waiting
        if not isinstance(frame, Data):
            return  # no other is said on such a link
        self._wait(relayed, frame)
        if not frame.end:
            return
        raw = b"".join(one.data for one in waiting if isinstance(one, Data))
        codec = wire.codec
        assert supports(codec, SupportsRelay)
        wire.outbox.put(codec.answered(relayed.id, raw))
        self.drop(relayed)

    def _wait(self, relayed: Relayed, frame: Frame) -> None:
        relayed.waiting.append(frame)
        if isinstance(frame, Head | Data) and frame.data:
            relayed.held += len(frame.data)
            self._wire.facts.share.add(len(frame.data))

    def _gone(self, relayed: Relayed, count: int) -> None:
        # Bytes that wait no more.
        if count:
            relayed.held -= count
            self._wire.facts.share.take(count)

    async def pump(self, link: Link) -> None:
        """Send what waits on a link when there is room for it. Returns when the link is over and nothing waits."""
        wire, ready = self._wire, link.ready
        while ready or not link.over:
            for relayed in list(ready.values()):
                if wire.outbox.full:
                    break
                before = relayed.held
                self._advance(relayed)
                if not relayed.waiting:
                    ready.pop(relayed.id, None)
                elif relayed.held < before:
                    # What the connection's window lets through next is for others: it has had its turn.
                    ready[relayed.id] = ready.pop(relayed.id)
            if wire.outbox.full:
                await wire.outbox.room()
            elif not ready and link.over:
                break
            else:
                limit = self._chain.service.timeouts.stream_idle or math.inf
                since = min([one.moved_at for one in ready.values()], default=math.inf)
                with trio.CancelScope(deadline=since + limit) as scope:
                    await wire.credit.park()
                if scope.cancelled_caught:
                    self._give_up(link, trio.current_time() - limit)
        link.scope.cancel()

    def _give_up(self, link: Link, since: float) -> None:
        # Who served them may have ended long ago. As it would have, had its client taken nothing for as long.
        if self._wire.paused:
            return
        for relayed in [one for one in link.ready.values() if one.moved_at <= since]:
            link.outbox.put(link.codec.send(Reset(relayed.id, Status.DEADLINE_EXCEEDED)))
            self._break(relayed, _IDLE)

    def _advance(self, relayed: Relayed) -> None:
        """Send what waits, as far as the client's windows let it through. No more than that of one window."""
        wire, waiting, link = self._wire, relayed.waiting, relayed.link
        while waiting:
            frame = waiting[0]
            flow = wire.flow
            allowed = flow.sendable(relayed.id) if flow is not None else _NO_WINDOWS
            if isinstance(frame, Head) and len(frame.data) > allowed:
                waiting[0] = Data(relayed.id, frame.data)
                waiting.insert(1, Data(relayed.id, b"", frame.end))
                waiting.appendleft(Head(relayed.id, frame.message))
                continue
            count = 0
            if isinstance(frame, Head | Data):
                count = len(frame.data)
            if isinstance(frame, Data) and count > allowed:
                if allowed <= 0:
                    return
                waiting[0] = Data(relayed.id, frame.data[allowed:], frame.end)
                frame, count = Data(relayed.id, frame.data[:allowed]), allowed
            else:
                waiting.popleft()
            self._gone(relayed, count)
            if not self._say(relayed, frame):
                return
            relayed.moved_at = trio.current_time()
            if count:
                link.outbox.put(link.codec.consumed(relayed.id, count))

    def _say(self, relayed: Relayed, frame: Frame) -> bool:
        # False: it is over, in another way than it should be.
        wire = self._wire
        try:
            wire.outbox.put(wire.codec.send(frame))
        except LocalProtocolError as exc:
            _logger.warning("response cannot be sent as it is: %s", exc)
            link = relayed.link
            link.outbox.put(link.codec.send(Reset(relayed.id, Status.INTERNAL)))
            self._break(relayed, _UNSENDABLE)
            return False
        if isinstance(frame, Reset):
            self.drop(relayed)
            return False
        if isinstance(frame, Head):
            relayed.begun |= not frame.interim
        if isinstance(frame, Trailers) or (isinstance(frame, Head | Data) and frame.end):
            relayed.answered = True
            if relayed.complete:
                self.drop(relayed)
        return True

    def _break(self, relayed: Relayed, why: ResponseHead) -> None:
        # As a worker's stream that fails: an answer where none has begun, else a reset.
        wire, stream_id = self._wire, relayed.id
        frame: Frame = Head(stream_id, why, b"", True)
        if relayed.begun:
            self._stats.downstream_rq_reset += 1
            frame = Reset(stream_id, why.status)
        else:
            statuses = self._stats.statuses
            statuses[why.status] = statuses.get(why.status, 0) + 1
        with contextlib.suppress(LocalProtocolError):  # the codec knows that all has been said
            wire.outbox.put(wire.codec.send(frame))
            if not relayed.begun and not relayed.complete and not wire.whole:
                wire.abandon(stream_id)
        self.drop(relayed)

    def drop(self, relayed: Relayed) -> None:
        """A stream is over: nothing of it waits any more, and another one may begin."""
        link = relayed.link
        relayed.answered = True
        relayed.waiting.clear()
        self._gone(relayed, relayed.held)
        if self.by_id.get(relayed.id) is relayed:
            del self.by_id[relayed.id]
        link.streams.pop(relayed.id, None)
        link.ready.pop(relayed.id, None)
        self._served.freed()
        if self._wire.phase is not Phase.SERVING:
            self._served.answered_late = True
            self._wire.finish_if_idle()

    def forsake(self, link: Link) -> None:
        """A link has ended: what was not said to its end will not be. Such streams are reset, and counted."""
        lost = 0
        for relayed in list(link.streams.values()):
            if relayed.answered:
                self.drop(relayed)
            elif relayed.ends:
                continue  # its end has come, and goes as soon as the client takes it
            elif link.codec.over:
                # Its worker ended without a word, as one does whose client is gone.
                self._say(relayed, Reset(relayed.id, Status.CANCELLED))
            else:
                lost += 1
                self._break(relayed, _LOST)
        if lost:
            protocol, counts = self._wire.facts.protocol, self._stats.downstream_rq_link_lost
            counts[protocol] = counts.get(protocol, 0) + lost
            _logger.warning(
                "an older process has gone: %d %s streams that it served are reset", lost, protocol
            )

    def end(self) -> None:
        """The connection has ended: nothing waits."""
        for relayed in self.by_id.values():
            self._gone(relayed, relayed.held)
        self.by_id.clear()

    def relieve(self) -> bool:
        """End the streams of which something waits here, as too much is held; returns whether there were any."""
        holding = [one for one in self.by_id.values() if one.held]
        for relayed in holding:
            link = relayed.link
            link.outbox.put(link.codec.send(Reset(relayed.id, Status.RESOURCE_EXHAUSTED)))
            self._break(relayed, _TOO_MUCH)
        return bool(holding)
