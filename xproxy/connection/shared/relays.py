"""Streams of a connection that an older process serves: what comes for them goes there, and its answers go out here.

Each older process has a link of its own, at most one a connection: no stream waits for one on another link, and a
link that is lost costs its own streams.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import attrs
import trio

from xproxy.codecs.relay.codec import Bye, Consumed, RelayCodec
from xproxy.connection.service import FilterChain
from xproxy.connection.shared.delivery import Delivery
from xproxy.connection.shared.link import Link, Relayed
from xproxy.connection.shared.served import Served
from xproxy.connection.shared.wire import SharedWire
from xproxy.connection.standing import OlderLink, RelayedStream
from xproxy.model.frames import Data, Frame, GoAway, Head, Reset, Trailers, Violation
from xproxy.transport.stream import ByteStream

_logger = logging.getLogger(__name__)


@attrs.frozen
class _Streamed:
    stream: ByteStream


class Relays:
    """All links of one connection. Looked at where a stream is none of ours, and never else."""

    __slots__ = ("_delivery", "_goodbye", "_wire", "by_id", "links")

    def __init__(
        self,
        wire: SharedWire,
        served: Served,
        chain: FilterChain,
        goodbye: Callable[[], None],
    ) -> None:
        """``goodbye``: called when an older process asks for one."""
        self._wire = wire
        self._delivery = Delivery(wire, served, chain)
        self._goodbye: Callable[[], None] | None = goodbye
        self.by_id = self._delivery.by_id
        """Streams that are not over."""
        self.links: list[Link] = []

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
                    nursery.start_soon(self._delivery.pump, link)
                    await self._read(link)
                    link.over = True
                    self._delivery.forsake(link)
                    self._wire.credit.unpark_all()  # the pump
        finally:
            if link.stream is not None:
                link.stream.close()
            if link in self.links:
                self.links.remove(link)

    # ---- what an older process says

    async def _read(self, link: Link) -> None:
        wire = self._wire
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
                self._delivery.take(relayed, frame)
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
                self._delivery.drop(relayed)
        return True

    def reset(self, frame: Reset) -> None:
        """Pass the client's reset on."""
        relayed = self.by_id.get(frame.stream_id)
        if relayed is not None:
            link = relayed.link
            link.outbox.put(link.codec.send(frame))
            self._delivery.drop(relayed)

    def cut_off(self) -> None:
        """No more of any request will come; what was asked in full is still answered."""
        for link in self.links:
            link.outbox.finish()

    def client_gone(self) -> None:
        """Nobody waits for answers any more."""
        for relayed in list(self.by_id.values()):
            self._delivery.drop(relayed)
        for link in self.links:
            link.scope.cancel()
        self._wire.credit.unpark_all()

    def relieve(self) -> bool:
        """End the streams of which something waits here, as too much is held; returns whether there were any."""
        return self._delivery.relieve()

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
            self._delivery.drop(relayed)
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
        self._delivery.end()
