"""Connections that stand still, as they were offered and nobody has answered yet: from the offer to gone or back."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import attrs
import trio

from xproxy.migration.carry import reason
from xproxy.migration.faults import fault
from xproxy.migration.giving import Giving
from xproxy.migration.messages import Hello
from xproxy.migration.movable import Movable, MovableDownstream, MovableUpstream
from xproxy.migration.readable import unreadable
from xproxy.migration.tally import Tally
from xproxy.migration.upstream_share import UpstreamShare
from xproxy.migration.waiting import SELDOM, Waiting


@attrs.define(eq=False)
class _Offered:
    item: Movable
    state: bytes
    sockets: list[socket.socket]
    cut: float
    """CLOCK_MONOTONIC."""


class Offers:
    """Of one takeover."""

    def __init__(
        self,
        machine: Giving,
        tally: Tally,
        clients: Waiting,
        upstreams: UpstreamShare,
        send: Callable[[int, float], None],
        *,
        rehearsal: bool,
    ) -> None:
        """``send`` is called with the number of an offer that is to be sent, and when it was frozen."""
        self._machine = machine
        self._tally = tally
        self._clients = clients
        self._upstreams = upstreams
        self._send = send
        self._rehearsal = rehearsal
        self._out: dict[int, _Offered] = {}
        self.theirs: Hello | None = None
        """What the other side has said that it is."""

    # ---- made

    def unreadable(self, item: Movable) -> str:
        """Return why the other side could not read what would be written of one; empty: it could, or has not said."""
        return unreadable(item.states, self._machine.hello, self.theirs)

    def offer(self, item: Movable) -> int:
        """Offer one; return how many were: one that cannot be written down is kept."""
        try:
            return int(self.offer_now(item))
        except OSError as exc:
            # No room for a link to its streams, now.
            if isinstance(item, MovableDownstream):
                item.waits = f"it cannot be frozen: {exc.strerror}"
                self._clients.look_again(item, trio.current_time() + SELDOM)
        except Exception as exc:  # a plugin's codec, too: see ``reason``
            self.keep(item, reason(exc))
        return 0

    def offer_now(self, item: Movable) -> bool:
        """Offer one; False: it goes on meanwhile. Raises what ``Movable.freeze`` and its codec do."""
        if why := self.unreadable(item):
            if isinstance(item, MovableUpstream):
                item.thaw()  # it stands still already
            raise ValueError(why)
        state, sockets = item.freeze()
        fault("give.frozen")
        if isinstance(item, MovableDownstream):
            item.out = True
        cut = time.monotonic()
        if self._rehearsal:
            item.thaw()
        number = self._machine.offer()
        self._out[number] = _Offered(item, state, sockets, cut)
        self._send(number, cut)
        return not self._rehearsal

    def to_send(self, number: int) -> tuple[bytes, list[int]] | None:
        """Return what was written of one, and the descriptors that go along; None: it was withdrawn."""
        offered = self._out.get(number)
        if offered is None:
            return None
        sockets = [] if self._rehearsal else offered.sockets
        return offered.state, [sock.fileno() for sock in sockets]

    # ---- answered

    def left(self, number: int) -> None:
        """The other process has it."""
        offered = self._out.pop(number)
        item = offered.item
        if isinstance(item, MovableDownstream):
            self._clients.gone(item)
        if self._rehearsal:
            self._tally.tried(item.name)
            for name in item.ends if isinstance(item, MovableDownstream) else ():
                self._tally.tried(name)
            return
        self._tally.gave(item.name, time.monotonic() - offered.cut)
        item.leave()
        if isinstance(item, MovableDownstream):
            self._tally.relay(item.name, item.relaying)
        fault("give.answered")

    def back(self, number: int) -> None:
        """It is ours, and is offered again."""
        offered = self._out.pop(number)
        self._tally.status.put_off()
        if not self._rehearsal:
            offered.item.thaw()
        if isinstance(offered.item, MovableDownstream):
            offered.item.out = False
            self._clients.put_off(offered.item, trio.current_time())

    def refused(self, number: int, why: str, *, for_ever: bool) -> None:
        """It is ours; ``for_ever``: it is not offered again."""
        item = self._out[number].item
        if not for_ever and isinstance(item, MovableDownstream):
            self.back(number)
            return
        del self._out[number]
        if not self._rehearsal:
            item.thaw()
        self.keep(item, why)

    def keep(self, item: Movable, why: str) -> None:
        """Let one that was never offered, or is not to be again, end here."""
        self._tally.refuse(item.name, why)
        if isinstance(item, MovableDownstream):
            self._clients.keep(item, why)
        elif isinstance(item, MovableUpstream):
            self._upstreams.refuse(item.cluster)
        if not self._rehearsal:
            item.keep()

    def close(self) -> None:
        """Nobody can know whose they are: so they are not ours."""
        while self._out:
            _, offered = self._out.popitem()
            offered.item.leave()
