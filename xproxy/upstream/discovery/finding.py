"""What asks a cluster's discovery, and keeps its last answer whatever becomes of it.

It begins with the first request that needs an endpoint, and not with the process: of ten thousand clusters most are
never used, and each would look something up every few seconds. The first requests wait for the first answer, as long
as ``FIRST_ANSWER_SECONDS``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from random import Random
from typing import Final

import trio

from xproxy.config.schema import EndpointConfig
from xproxy.upstream.discovery.api import Asked, Discovery
from xproxy.upstream.discovery.backoff import Backoff
from xproxy.upstream.stats import ClusterStats

_logger = logging.getLogger(__name__)

FIRST_ANSWER_SECONDS: Final = 5.0
"""How long a request waits for the first answer; then it fails as if there was no endpoint."""
MOST_ENDPOINTS: Final = 65_536
"""In one answer; a larger one is a failure."""
LEAST_PAUSE_SECONDS: Final = 0.05
"""Between two answers: a discovery that never waits would have the processor to itself."""


class Finding:
    """A discovery at work for one cluster. One a cluster, made anew where what it is asked is another thing."""

    def __init__(
        self,
        cluster: str,
        discovery: Discovery,
        stats: ClusterStats,
        take: Callable[[Sequence[EndpointConfig]], None],
        random: Random,
    ) -> None:
        """``take`` is called with each answer that is another than the one before. It never blocks."""
        self._cluster = cluster
        self._discovery = discovery
        self._stats = stats
        self._take = take
        self._random = random
        self._said = ""
        # The last failure that was logged; empty: it has gone well since.
        self._scope: trio.CancelScope | None = None
        # While it runs.
        self._first = trio.Event()
        self.found: tuple[EndpointConfig, ...] | None = None
        """The last answer; None: there was none yet."""

    def begin(self, nursery: trio.Nursery, endpoints: tuple[EndpointConfig, ...]) -> None:
        """Ask about ``endpoints``, which the configuration names, from now on, in ``nursery``. Once will do."""
        if self._scope is None:
            self._scope = trio.CancelScope()
            nursery.start_soon(self._run, self._scope, endpoints)

    def restart(self, nursery: trio.Nursery, endpoints: tuple[EndpointConfig, ...]) -> None:
        """Ask about other endpoints, if it has begun at all; the last answer stays until there is another."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.cancel()
            self.begin(nursery, endpoints)

    def learn(self, found: Sequence[EndpointConfig]) -> None:
        """Begin with an answer that somebody else had; nothing happens where there is one already."""
        if self.found is None:
            self._answer(found)

    async def wait(self) -> bool:
        """Wait for the first answer, as long as that is reasonable; return whether there is one."""
        with trio.move_on_after(FIRST_ANSWER_SECONDS):
            await self._first.wait()
        return self.found is not None

    async def _run(self, scope: trio.CancelScope, endpoints: tuple[EndpointConfig, ...]) -> None:
        backoff = Backoff(self._random)
        asked = Asked(self._cluster, endpoints, self._random, self.failed)
        with scope:
            while True:
                try:
                    async with aclosing(self._discovery.discover(asked)) as answers:
                        async for answer in answers:
                            self._answer(answer)
                            backoff.reset()
                            await trio.sleep(LEAST_PAUSE_SECONDS)
                    self.failed("it has ended")
                except Exception as exc:  # somebody else's code, which may fail with anything
                    self.failed(f"{type(exc).__name__}: {exc}")
                await trio.sleep(backoff.delay())

    def _answer(self, answer: Sequence[EndpointConfig]) -> None:
        found = tuple(answer)
        if len(found) > MOST_ENDPOINTS:
            raise ValueError(f"{len(found)} endpoints, the most are {MOST_ENDPOINTS}")
        if not all(isinstance(one, EndpointConfig) for one in found):
            raise TypeError("an answer is a sequence of EndpointConfig")
        if found != self.found:
            self._take(found)
            self.found = found
            self._stats.discovery_updates += 1
        self._first.set()
        if self._said:
            _logger.info("cluster %s: its endpoints are found again", self._cluster)
            self._said = ""

    def failed(self, why: str) -> None:
        """See Asked."""
        self._stats.discovery_failed += 1
        if why != self._said:
            kept = "no answer yet" if self.found is None else "the last answer stays"
            _logger.warning("cluster %s: endpoints not found (%s): %s", self._cluster, kept, why)
            self._said = why
