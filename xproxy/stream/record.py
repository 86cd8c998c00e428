"""What became of a request: written by router, clusters, filters and drivers, for access logs and retries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

import attrs

from xproxy.model.address import Address
from xproxy.model.status import Status
from xproxy.stream.ending import AttemptEnding


class RetryPermits(Protocol):
    """A cluster's bound on retries in flight, of which each client's connection has its share."""

    def acquire(self, client: int) -> bool:
        """Take a permit for one retry on the connection of this id; False: the outcome so far goes on."""
        ...

    def release(self, client: int) -> None:
        """Give it back."""
        ...


class Addressed(Protocol):
    """An endpoint, as far as it matters here."""

    @property
    def address(self) -> Address: ...


class Attempted(Protocol):
    """An attempt at an endpoint (upstream's ``Attempt``) for who looks at it. Times are seconds of the trio clock."""

    @property
    def endpoint(self) -> Addressed: ...
    @property
    def previous(self) -> Attempted | None:
        """The one before it, of the same request."""
        ...

    @property
    def began(self) -> float:
        """When the endpoint was chosen."""
        ...

    @property
    def answered(self) -> float | None:
        """When the response head was there."""
        ...

    @property
    def ended(self) -> float | None:
        """When it ended; None: it is under way."""
        ...

    @property
    def how(self) -> AttemptEnding | None:
        """How it ended, likewise."""
        ...

    @property
    def failed(self) -> bool:
        """Another endpoint may do better."""
        ...

    @property
    def permits(self) -> RetryPermits:
        """The bound on retries of its cluster."""
        ...

    async def aclose(self) -> None:
        """Let go of what its response holds. Idempotent."""
        ...


NO_SUBSET: Final[Mapping[str, str]] = MappingProxyType({})
"""Of a request that says nothing of it."""


@attrs.frozen
class Wish:
    """Which endpoint a request is to go to, if that is fit."""

    token: str
    """Names it (``upstream.session``); whatever the client says."""
    strict: bool = False
    """Else it is refused."""


@attrs.define(eq=False)
class Record:
    """One request's; a fork has one of its own, which begins with what was known when it was made."""

    route: str = ""
    """The route's name."""
    cluster: str = ""
    """The name of the one that it goes to."""
    endpoint: Address | None = None
    """Who was asked last."""
    attempt: Attempted | None = None
    """The last one; see ``attempts``."""
    flags: str = ""
    """Envoy's response flags, comma-separated."""
    detail: str = ""
    """Why a reply was made here."""
    received_bytes: int = 0
    """Request body bytes forwarded."""
    sent_bytes: int = 0
    """Response body bytes sent to the client."""
    response_started: bool = False
    """The response head is on its way to the client: nothing may be retried any more."""
    local: bool = False
    """The response was made here."""
    outcome: Status | None = None
    """How the exchange ended, where trailers or what came instead of them told another thing than the head.
    Written by drivers, and by filters that take trailers away."""
    priority: int = 0
    """Of the request, where requests wait for their upstream: a higher one goes first."""
    hash: int | None = None
    """What keeps requests together at an endpoint, 64 bits: balancers that hash go by it. None: nothing does."""
    subset: Mapping[str, str] = NO_SUBSET
    """What the metadata of its endpoint is to say, where the cluster has subsets. Written by the route."""
    wish: Wish | None = None
    """Which endpoint it is to go to. None: the balancer chooses."""
    logged: bool = False
    """An access log has its line. Written by that filter."""

    @property
    def attempts(self) -> Sequence[Attempted]:
        """All attempts, in order: one, and as many more as there were retries."""
        last = self.attempt
        if last is None:
            return ()
        before = last.previous
        if before is None:
            return (last,)
        found = [last]
        while before is not None:
            found.append(before)
            before = before.previous
        return found[::-1]

    @property
    def tried(self) -> Sequence[object]:
        """Endpoints that failed already, so that a retry can avoid them."""
        return [attempt.endpoint for attempt in self.attempts if attempt.failed]

    @property
    def permits(self) -> RetryPermits | None:
        """The bound on retries of the cluster that was asked last; None: none was."""
        return None if self.attempt is None else self.attempt.permits

    def fork(self) -> Record:
        """Return the record of a fork: where it goes, what was tried till now, and the flags."""
        return Record(
            route=self.route,
            cluster=self.cluster,
            attempt=self.attempt,
            flags=self.flags,
            response_started=self.response_started,
            priority=self.priority,
            hash=self.hash,
            subset=self.subset,
            wish=self.wish,
        )

    def flag(self, code: str) -> None:
        """Note a response flag, once."""
        if code != "-" and code not in self.flags.split(","):
            self.flags = f"{self.flags},{code}" if self.flags else code
