"""Streams of a connection that an older process serves: what comes for them goes there, and its answers go out here.

Each older process has a link of its own, at most one a connection: no stream waits for one on another link, and a
link that is lost costs its own streams.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import attrs
import trio

from xproxy.codecs.api import SupportsRelay, supports
from xproxy.codecs.relay.codec import Bye, Consumed, RelayCodec
from xproxy.connection.phase import Phase
from xproxy.connection.service import FilterChain
from xproxy.connection.shared.outbox import FOREVER, Outbox
from xproxy.connection.shared.served import Served
from xproxy.connection.shared.wire import SharedWire
from xproxy.connection.standing import OlderLink, RelayedStream
from xproxy.model.errors import LocalProtocolError, Overflow
from xproxy.model.frames import Data, Frame, GoAway, Head, Reset, Trailers, Violation
from xproxy.model.limits import KIB, MIB, Limits
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.exchange import error_head
from xproxy.stream.held import TOO_MUCH
from xproxy.transport.stream import ByteStream, MovableStream

_logger = logging.getLogger(__name__)

LINK_LIMITS: Final = Limits(
    max_head_bytes=MIB, max_headers=10_000, max_streams=1_000_000, max_message_bytes=64 * MIB
)
"""Of both ends of a link: above all that a client's or an upstream's codec lets through."""
MOST_INTERIM: Final = 4
"""Responses before the response (1xx) of one stream that wait for a client to take them; further ones are dropped."""
_OUTBOX: Final = 256 * KIB
"""Bytes that wait for an older process: a mark, no bound, as the client's windows are one."""

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


class Relayed:
    """One stream."""

    __slots__ = ("answered", "begun", "complete", "held", "id", "link", "moved_at", "waiting")

    def __init__(self, link: Link, stream: RelayedStream) -> None:
        self.link = link
        self.id = stream.id
        self.complete = stream.complete
        """All of its request has come."""
        self.begun = stream.begun
        """The head of its answer has gone."""
        self.answered = not link.codec.hears(stream.id)
        """All of its answer has gone, or been thrown away."""
        self.moved_at = trio.current_time()
        """When something last went to the client, or came for it when nothing waited (trio clock)."""
        self.held = 0
        """Bytes that wait."""
        self.waiting: deque[Frame] = deque()
        """What has come for the client and not gone yet: bounded by the stream's window on the link."""

    @property
    def state(self) -> RelayedStream:
        """What another process needs to know of it."""
        return RelayedStream(id=self.id, complete=self.complete, begun=self.begun)


class Link:
    """Our end of the link to one older process."""

    __slots__ = ("codec", "outbox", "over", "ready", "scope", "stream", "streams")

    def __init__(self, stream: ByteStream | None, codec: RelayCodec, unsent: bytes) -> None:
        self.stream = stream
        """None: its process has said all."""
        self.codec = codec
        self.outbox = Outbox(_OUTBOX, FOREVER)
        self.outbox.put(unsent)
        self.streams: dict[int, Relayed] = {}
        self.ready: dict[int, Relayed] = {}
        """Those of which something waits."""
        self.over = False
        """Nothing more comes."""
        self.scope = trio.CancelScope()
        """Round all that is done for it."""

    @property
    def movable(self) -> MovableStream | None:
        """Its stream, where it has one."""
        return self.stream if isinstance(self.stream, MovableStream) else None


@attrs.frozen
class _Streamed:
    stream: ByteStream


class Relays:
    """All links of one connection. Looked at where a stream is none of ours, and never else."""

    __slots__ = ("_chain", "_goodbye", "_served", "_stats", "_wire", "by_id", "links")

    def __init__(
        self,
        wire: SharedWire,
        served: Served,
        chain: FilterChain,
        goodbye: Callable[[], None],
    ) -> None:
        """``goodbye``: called when an older process asks for one."""
        self._wire = wire
        self._served = served
        self._chain = chain
        self._stats = chain.stats
        self._goodbye: Callable[[], None] | None = goodbye
        self.by_id: dict[int, Relayed] = {}
        """Streams that are not over."""
        self.links: list[Link] = []
        wire.relayed = self.by_id

    def add(
        self,
        stream: ByteStream | None,
        codec: RelayCodec,
        streams: Iterable[RelayedStream],
        unsent: bytes = b"",
    ) -> None:
        """Take over our end of a link; call it before the connection is read. ``stream``: None, if all has come."""
        link = Link(stream, codec, unsent)
        for one in streams:
            self.by_id[one.id] = link.streams[one.id] = Relayed(link, one)
        self.links.append(link)

    def start(self, nursery: trio.Nursery) -> None:
        """Serve all links in ``nursery``, until each has ended and the client has what came over it."""
        for link in self.links:
            nursery.start_soon(self._run, link)

    async def _run(self, link: Link) -> None:
        try:
            with link.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, link)
                    nursery.start_soon(self._pump, link)
                    await self._read(link)
                    link.over = True
                    self._forsake(link)
                    self._wire.credit.unpark_all()  # the pump
        finally:
            if link.stream is not None:
                link.stream.close()
            if link in self.links:
                self.links.remove(link)

    # ---- what an older process says

    async def _read(self, link: Link) -> None:
        wire = self._wire
        link.outbox.put(link.codec.grant())
        frames = link.codec.receive(b"")  # what another process had received, and could not pass on
        try:
            while True:
                for frame in frames:
                    if self._take(link, frame):
                        return
                if link.stream is None:
                    return
                if wire.whole:
                    # There are no windows. The client must take what came before.
                    await wire.outbox.room()
                    if wire.paused:
                        frames = ()
                        continue
                data = await link.stream.read()
                link.stream.settle()
                if not data:
                    return
                frames = link.codec.receive(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # as if it had ended

    def _take(self, link: Link, frame: Frame) -> bool:
        # True: nothing follows.
        if isinstance(frame, Head | Data | Trailers | Reset):
            relayed = link.streams.get(frame.stream_id)
            if relayed is not None and not relayed.answered:
                self._of_stream(link, relayed, frame)
        elif isinstance(frame, Consumed):
            self._wire.consumed(frame.stream_id, frame.count)
        elif isinstance(frame, Bye):
            return True
        elif isinstance(frame, GoAway):
            if self._goodbye is not None:
                self._goodbye()
        elif isinstance(frame, Violation):
            _logger.error("%s", frame.detail)
            return True
        return False

    def _of_stream(
        self, link: Link, relayed: Relayed, frame: Head | Data | Trailers | Reset
    ) -> None:
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
            link.ready[relayed.id] = relayed
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
        self._drop(relayed)

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

    # ---- what goes to the client

    async def _pump(self, link: Link) -> None:
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
            allowed = flow.sendable(relayed.id) if flow is not None else FULL
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
            self._drop(relayed)
            return False
        if isinstance(frame, Head):
            relayed.begun |= not frame.interim
        if isinstance(frame, Trailers) or (isinstance(frame, Head | Data) and frame.end):
            relayed.answered = True
            if relayed.complete:
                self._drop(relayed)
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
        self._drop(relayed)

    def _drop(self, relayed: Relayed) -> None:
        # It is over.
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

    def _forsake(self, link: Link) -> None:
        # The link has ended: what was not said to its end will not be.
        lost = 0
        for relayed in list(link.streams.values()):
            if relayed.answered:
                self._drop(relayed)
            elif relayed.waiting and _ends(relayed.waiting):
                continue  # its end has come, and goes as soon as the client takes it
            elif link.codec.over:
                # Its worker ended without a word, as one does whose client is gone.
                self._say(relayed, Reset(relayed.id, Status.CANCELLED))
            else:
                lost += 1
                self._break(relayed, _LOST)
        if lost:
            self._stats.downstream_rq_link_lost += lost
            _logger.warning("an older process has gone, and %d streams with it", lost)

    # ---- what the client says

    def piece(self, frame: Data | Trailers) -> bool:
        """Pass a piece of a request on; False: it is none of a relayed stream."""
        relayed = self.by_id.get(frame.stream_id)
        if relayed is None:
            return False
        link = relayed.link
        link.outbox.put(link.codec.send(frame))
        if isinstance(frame, Trailers) or frame.end:
            relayed.complete = True
            if relayed.answered:
                self._drop(relayed)
        return True

    def reset(self, frame: Reset) -> None:
        """Pass the client's reset on."""
        relayed = self.by_id.get(frame.stream_id)
        if relayed is not None:
            link = relayed.link
            link.outbox.put(link.codec.send(frame))
            self._drop(relayed)

    def cut_off(self) -> None:
        """No more of any request will come; what was asked in full is still answered."""
        for link in self.links:
            link.outbox.finish()

    def client_gone(self) -> None:
        """Nobody waits for answers any more."""
        for relayed in list(self.by_id.values()):
            self._drop(relayed)
        for link in self.links:
            link.scope.cancel()
        self._wire.credit.unpark_all()

    def relieve(self) -> bool:
        """End the streams of which something waits here, as too much is held; returns whether there were any."""
        holding = [one for one in self.by_id.values() if one.held]
        for relayed in holding:
            link = relayed.link
            link.outbox.put(link.codec.send(Reset(relayed.id, Status.RESOURCE_EXHAUSTED)))
            self._break(relayed, _TOO_MUCH)
        return bool(holding)

    async def _write(self, link: Link) -> None:
        stream = link.stream
        if stream is None:
            return
        try:
            await link.outbox.run(_Streamed(stream))
            stream.shutdown_write()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # what it has said is still to be read, and then its end

    # ---- moving

    @property
    def still(self) -> bool:
        """Whether every link waits: for bytes, or for the client."""
        return all(
            link.over
            or link.movable is None
            or link.movable.awaited
            or (self._wire.whole and self._wire.outbox.full)
            for link in self.links
        )

    def freeze(self) -> tuple[OlderLink, ...]:
        """Stand still, and write down every link of which something is yet to come, or to go to the client."""
        return tuple(self._frozen(link) for link in self.links if link.ready or not link.over)

    def _frozen(self, link: Link) -> OlderLink:
        movable = link.movable
        sock = None if movable is None or link.over else movable.suspend()
        link.outbox.hold()
        waiting = [frame for one in link.streams.values() for frame in one.waiting]
        return OlderLink(
            sock=sock,
            codec=link.codec.snapshot_before(waiting),
            unsent=link.outbox.unsent(),
            streams=tuple(one.state for one in link.streams.values()),
        )

    def thaw(self) -> None:
        """Go on."""
        for link in self.links:
            link.outbox.release()
            if link.movable is not None and not link.over:
                link.movable.resume()
        self._wire.credit.unpark_all()

    def leave(self) -> None:
        """Another process has the links."""
        for relayed in list(self.by_id.values()):
            self._drop(relayed)
        for link in self.links:
            if link.movable is not None and not link.over:
                link.movable.leave()
            link.scope.cancel()
        self._wire.credit.unpark_all()

    def end(self) -> None:
        """The connection has ended."""
        self._goodbye = None
        for link in self.links:
            if link.stream is not None:
                link.stream.close()
        self.links.clear()
        for relayed in self.by_id.values():
            self._gone(relayed, relayed.held)
        self.by_id.clear()


FULL: Final = 1 << 62
"""More than any window."""


def _ends(waiting: deque[Frame]) -> bool:
    last = waiting[-1]
    return isinstance(last, Trailers | Reset) or (isinstance(last, Head | Data) and last.end)
