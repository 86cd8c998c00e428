"""What is offered in one go: clients first, then their share of upstream connections, then a rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import trio

from xproxy.migration.carry import reason
from xproxy.migration.giving import Giving, State
from xproxy.migration.movable import MovableDownstream
from xproxy.migration.offers import Offers
from xproxy.migration.serving import serves
from xproxy.migration.upstream_share import UpstreamShare
from xproxy.migration.waiting import LOOK_AGAIN, Waiting
from xproxy.proxy.runtime import Runtime


class Batches:
    """Of one takeover."""

    def __init__(
        self,
        runtime: Runtime,
        machine: Giving,
        clients: Waiting,
        upstreams: UpstreamShare,
        offers: Offers,
        changed: Callable[[], None],
        *,
        rest: float,
    ) -> None:
        """``rest``: see Pace. ``changed`` is called where a batch is due before its time."""
        self._runtime = runtime
        self._machine = machine
        self._clients = clients
        self._upstreams = upstreams
        self._offers = offers
        self._changed = changed
        self._rest = rest
        self._rest_until = 0.0
        self._unwritten: dict[int, tuple[MovableDownstream, str]] = {}
        # By the identity of their connections: what could not be written down when its driver asked, and why.
        self.over = False
        """Nothing is offered any more, whoever asks."""

    def list_all(self) -> None:
        """Take up connections that have come."""
        for item, why in self._clients.list_all(self._offers.unreadable):
            self._offers.keep(item, why)

    def offer(self, now: float) -> float | None:
        """Offer what there is room for; return how long to wait for the next time, if nothing is heard before.

        None: nothing could be offered. A checkpoint must follow in any case: what is looked at in one go is bounded.
        """
        machine = self._machine
        if now < self._rest_until and serves(self._runtime):
            return min(self._rest_until - now, LOOK_AGAIN)
        begun = time.thread_time()
        self._clients.wake(now)
        while self._unwritten:
            self._offers.keep(*self._unwritten.popitem()[1])
        if self.over and machine.state is State.TAILING:
            return None
        offered = 0
        while machine.room and (item := self._clients.next(now)) is not None:
            offered += self._offers.offer(item)
        tailing = machine.state is State.TAILING or not (offered or self._clients.any_ready)
        for upstream in self._upstreams.due(1.0 if tailing else self._clients.share_gone):
            offered += self._offers.offer(upstream)
        if not offered:
            return 0.0 if machine.room and self._upstreams.unfinished else None
        self._rest_until = now + self._rest * (time.thread_time() - begun)
        return 0.0 if machine.room else math.inf

    def found(self, item: MovableDownstream) -> bool:
        """Offer a connection whose driver says that it can be frozen now; say whether it was."""
        if self.over or not self._machine.room or id(item.connection) in self._unwritten:
            return False
        if not self._clients.movable(item, trio.current_time()):
            return False
        try:
            return self._offers.offer_now(item)
        except OSError:
            return False  # no room for a link to its streams, now
        except Exception as exc:  # a plugin's codec, too: see ``reason``
            # Not from within its driver: to be kept it is drained.
            self._unwritten[id(item.connection)] = item, reason(exc)
            self._changed()
            return False
