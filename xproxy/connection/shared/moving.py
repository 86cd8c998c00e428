"""How a shared connection goes to another process: when it can, what it is then, and what is left here.

The part of ``Multiplexed`` that knows of other processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from xproxy.connection.bindings import Bindings
from xproxy.connection.phase import Event, Phase
from xproxy.connection.service import FilterChain
from xproxy.connection.shared.acknowledgement import Acknowledgement
from xproxy.connection.shared.calls import Calls
from xproxy.connection.shared.departure import (
    Departure,
    depart,
    gone,
    relayable,
    stay,
    taken_over,
)
from xproxy.connection.shared.relays import Relays
from xproxy.connection.shared.served import Served
from xproxy.connection.shared.silence import Silence
from xproxy.connection.shared.wire import SharedWire
from xproxy.connection.standing import Moment, OlderLink, Standing
from xproxy.model.frames import Frame

_SERVING: Final = Phase.SERVING
_LOOK_AGAIN: Final = 0.02
"""Seconds until the next look at a connection that is in the middle of something, while somebody seeks it."""
_MOVABLE: Final = frozenset((Standing.IDLE, Standing.RELAY))


class Moving(Bindings):
    """See the module."""

    wire: SharedWire
    _calls: Calls
    _chain: FilterChain | None
    _served: Served

    def __init__(self, moment: Moment | None) -> None:
        self._moment = moment
        self._relays: Relays | None = None
        """Links to older processes; none: all that is in flight is served here."""
        self._departure: Departure | None = None
        """It stands still, and its streams are on a link."""
        self._left = False
        """Another process has the connection, and what is left here are streams on a link."""
        self._drain_later = False
        """It was to be drained while it stood still."""
        self._silence: Silence | None = None
        self._acknowledgement: Acknowledgement | None = None
        self._found: Callable[[], bool] | None = None
        self._seeking = trio.CancelScope()
        """Round the looking whether it can move."""

    def drain(self) -> None:
        """See Downstream."""
        raise NotImplementedError

    def _other(self, frame: Frame) -> bool:
        raise NotImplementedError

    def _take_over(self, moment: Moment) -> None:
        # What goes out first, and the links to those who serve what is in flight.
        wire, chain = self.wire, self._chain
        wire.outbox.put(moment.parts.unsent)
        if chain is not None and (moment.link is not None or moment.links):
            self._relays = Relays(wire, self._served, chain, self.drain)
            taken_over(wire, moment, self._relays)

    @property
    def standing(self) -> Standing:
        """Whether it can be frozen: while it is idle, or as far as its protocol lets it go without its streams."""
        wire = self.wire
        if wire.phase is not _SERVING:
            return Standing.NEVER
        parked = wire.awaited or wire.read_disabled
        if wire.paused or not parked or wire.amid or wire.backlogged or wire.nursery is None:
            return Standing.NOT_NOW
        if self._relays is not None and not self._relays.still:
            return Standing.NOT_NOW
        if not wire.streams:
            return Standing.IDLE
        stays = wire.asked or self._bindings or (wire.served and not relayable(wire))
        return Standing.BUSY if stays else Standing.RELAY

    def freeze(self) -> Moment:
        """Stand still: nothing is read, written or timed until ``thaw`` or ``leave``. Call it on one that is idle.

        Or on one whose streams can be relayed: they go on, and what they say waits on the link.

        Raises what ``Wire.export`` raises, and OSError if there is no room for a link now; then it goes on.
        """
        wire, silence, acknowledgement = self.wire, self._silence, self._acknowledgement
        relays = self._relays
        sock = wire.pause()
        links: tuple[OlderLink, ...] = ()
        try:
            parts = wire.export()
            if relays is not None:
                links = relays.freeze()
            if wire.served:
                self._departure = depart(wire, self._served.in_flight())
        except BaseException:
            if relays is not None:
                relays.thaw()
            wire.resume()
            raise
        departure = self._departure
        self._moment = Moment(
            parts=parts,
            sock=sock,
            half=silence is not None and silence.half_message,
            left=silence.pause() if silence is not None else math.inf,
            last_id=self._calls.last_id,
            patience=acknowledgement.pause() if acknowledgement is not None else math.inf,
            link=None if departure is None else departure.other,
            relayed=() if departure is None else departure.streams,
            links=links,
        )
        return self._moment

    @property
    def relaying(self) -> int:
        """Streams that are served here though another process has their connection."""
        return len(self.wire.served) if self._left else 0

    def thaw(self) -> None:
        """Go on as if nothing had been, with the time that was left."""
        moment, self._moment = self._moment, None
        assert moment is not None  # it was frozen
        departure, self._departure = self._departure, None
        if self.wire.phase is Phase.CLOSED:
            return  # it was ended meanwhile
        if self._silence is not None:
            self._silence.start(moment.left)
        if self._acknowledgement is not None:
            self._acknowledgement.go_on(moment.patience)
        if departure is not None:
            stay(self.wire, departure)
        else:
            self.wire.resume()
        if self._relays is not None:
            self._relays.thaw()
        self.wire.credit.unpark_all()
        if self._drain_later:
            self.drain()

    def leave(self) -> None:
        """Another process goes on with it: ``run`` returns, and the peer notices nothing.

        Where streams are in flight it returns when they are over.
        """
        wire = self.wire
        departure, self._departure, self._moment = self._departure, None, None
        if wire.phase is Phase.CLOSED:
            return  # it was ended meanwhile
        if self._relays is not None:
            self._relays.leave()
        if departure is None:
            wire.leave()
            wire.reading.cancel()
            return
        self._left = True
        self._seeking.cancel()
        self._watch_no_more()
        wire.after(Event.GOODBYE)
        self._calls.refuse()
        self._served.dismiss()
        gone(wire, departure)
        if self._drain_later:
            self.drain()
        wire.finish_if_idle()

    async def _read_link(self) -> None:
        # What the client says to the streams that stayed here.
        wire = self.wire
        try:
            while True:
                data = await wire.stream.read()
                wire.stream.settle()
                if not data:
                    wire.after(Event.END)
                    return
                for frame in wire.codec.receive(data):
                    if self._other(frame):
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            wire.detail = wire.detail or str(exc)
            wire.after(Event.BREAK)

    def _watch_no_more(self) -> None:
        # Of what is the connection's and not a stream's.
        silence, self._silence = self._silence, None
        acknowledgement, self._acknowledgement = self._acknowledgement, None
        if silence is not None:
            silence.end()
        if acknowledgement is not None:
            acknowledgement.end()

    # ---- being sought

    def seek(self, found: Callable[[], bool] | None) -> None:
        """Call ``found`` soon after it may have become movable, or idle; None: no more.

        What it returns, whether it was frozen, does not matter here. It costs nothing that a stream would notice.
        """
        begins = self._found is None and found is not None
        self._found = found
        if found is None:
            self._seeking.cancel()
        elif begins and not self._left and self.wire.phase is _SERVING:
            self._seeking = trio.CancelScope()
            self.wire.spawn(partial(self._tell, self._seeking))

    async def _tell(self, seeking: trio.CancelScope) -> None:
        told: Standing | None = None
        with seeking:
            while (found := self._found) is not None:
                standing = self.standing
                if standing is Standing.NEVER:
                    return
                if standing not in _MOVABLE:
                    told = None
                    # It ends by itself, and soon; or with a stream.
                    with trio.move_on_after(_LOOK_AGAIN):
                        await self._served.change()
                    continue
                if standing is not told:
                    found()
                    if self.wire.paused or self._left:
                        continue
                # That it is in flight is told once, that it is idle each time.
                told = None if standing is Standing.IDLE else standing
                await self._served.change()
