"""The router: the handler at the end of a listener's filters. It chooses a route and goes through its filters."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Final, final

import attrs
import trio

from xproxy.model.errors import ClusterNotFound, DeadlineExceeded, RouteNotFound, Unsupported
from xproxy.model.message import Target
from xproxy.routing.forwards import METHODS, count_forward
from xproxy.routing.instead import by_header, falling_back, given_value
from xproxy.routing.mirror import Mirroring
from xproxy.routing.route import DEFAULT_TIMEOUT, Route, WeightedClusters
from xproxy.routing.table import RouteTable
from xproxy.stream.body import BytesBody
from xproxy.stream.chain import compose
from xproxy.stream.ending import BodyEnding, Complete
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.stream.links import Note, Plain
from xproxy.stream.wrapped import WrappedBody

ROUTER: Final = "(router)"
"""What makes a ``TimedBody`` anew: no filter, so that it has a name that none can have."""
# One look-up for all of them: nothing more is asked of any other method.
_RARE: Final = METHODS | {"CONNECT"}


@final
class Router:
    """Chooses the route, sets the stream's deadline, and hands the request to route filters and cluster."""

    __slots__ = ("_clock", "_clusters", "_random_value", "_routes", "_table")

    def __init__(
        self,
        table: RouteTable,
        clusters: Mapping[str, Handler],
        clock: Callable[[], float] = trio.current_time,
        random_value: Callable[[], int] = lambda: random.getrandbits(64),
    ) -> None:
        """Compose every route's filters round its cluster, once.

        Args:
            table: the routes.
            clusters: the handler of each cluster, by name; looked at here and, for weighted routes, per request.
            clock: trio's, in seconds.
            random_value: a fresh integer ≥ 0 at each call, for weighted clusters.

        """
        self._table = table
        self._clusters = clusters
        self._clock = clock
        self._random_value = random_value
        self._routes: dict[Route, Handler] = {
            route: self._composed(route) for route in table.routes
        }

    @classmethod
    def building(
        cls, table: RouteTable, clusters: Mapping[str, Handler]
    ) -> Generator[None, None, Router]:
        """Make a router like the class itself, and yield after each route: there may be very many."""
        router = cls(RouteTable(table.name, ()), clusters)
        router._table = table
        for route in table.routes:
            router._routes[route] = router._composed(route)
            yield
        return router

    def route(self, name: str) -> Route | None:
        """Return the route of this name."""
        return next((route for route in self._table.routes if route.name == name), None)

    def relink(self, request: Request, _response: Response, fields: tuple[Plain, ...]) -> None:
        """See SupportsRelink."""
        match fields:
            case (float() | int() as timeout,) if timeout > 0:
                request.body = TimedBody(request, timeout, self._clock)
            case _:
                raise ValueError("no time of a route")

    def _composed(self, route: Route) -> Handler:
        copying = [
            Mirroring(mirror, self._clusters.get(mirror.config.cluster, _unknown_cluster))
            for mirror in route.mirrors
        ]
        return compose((*route.steering, *copying, *route.filters), self._innermost(route))

    def _innermost(self, route: Route) -> Handler:
        handler = self._first_asked(route)
        if route.fallback is None or route.beside is None:
            return handler
        instead = self._clusters.get(route.fallback, _unknown_cluster)
        return falling_back(handler, route.fallback, instead, route.beside.stats)

    def _first_asked(self, route: Route) -> Handler:
        cluster = route.cluster
        if route.cluster_header is not None:
            return by_header(route.cluster_header, self._chosen_cluster)
        if cluster is None:
            return _unanswered
        if isinstance(cluster, WeightedClusters):
            return self._chosen_cluster
        return self._clusters.get(cluster, _unknown_cluster)

    def _chosen_cluster(self, request: Request) -> Awaitable[Response]:
        # The choice was made once for the stream: a retry inside the route stays with it.
        return self._clusters.get(request.record.cluster, _unknown_cluster)(request)

    def __call__(self, request: Request) -> Awaitable[Response]:
        """Return the awaitable of the route's handler; no frame of the router's stands in between.

        Raises RouteNotFound if no route matches, and Unsupported for a CONNECT that its route does not allow and for
        a TRACE that may go no further. An upgrade that the route does not allow is passed over.
        """
        head = request.head
        route = self._table.choose(head, request.connection)
        if route is None:
            raise RouteNotFound(f"no route in {self._table.name!r} for {_named(request)}")
        request.record.route = route.name
        target = head.extra if isinstance(head.extra, Target) else None
        if head.method in _RARE and target is not None:
            if head.method == "CONNECT":
                if not target.path and not route.allow_connect:
                    raise Unsupported(f"{_named(request)} is not allowed here")
            elif (answer := count_forward(request)) is not None:
                return _at_once(answer)
        cluster = route.cluster
        if isinstance(cluster, WeightedClusters):
            value = given_value(head, route.weight_header) if route.weight_header else None
            request.record.cluster = cluster.pick(self._random_value() if value is None else value)
        elif cluster is not None:
            request.record.cluster = cluster
        timeout = route.timeout
        if head.deadline is not None:
            request.stream.limit(request.started + max(0.0, head.deadline))
        elif timeout is None and (target is None or target.rpc is None):
            timeout = DEFAULT_TIMEOUT
        if target is not None and (target.upgrade or not target.path):
            return self._tunnel(request, target, route, timeout or 0.0)
        if isinstance(request.body, BytesBody):
            if timeout:
                request.stream.limit(request.started + timeout)
        elif timeout and not request.connection.traits.headless:
            # The route's time counts from the end of the request; a stream without a head (L4) has no such end to its
            # name: it is one exchange as long as its connection.
            request.body = TimedBody(request, timeout, self._clock)
        return self._routes[route](request)

    def _tunnel(
        self, request: Request, target: Target, route: Route, timeout: float
    ) -> Awaitable[Response]:
        head = request.head
        handler = self._routes[route]
        if target.upgrade and target.upgrade not in route.allow_upgrade:
            if target.upgrade_only:
                raise Unsupported(f"{_named(request)} may not become {target.upgrade!r} here")
            # Passed over: the request is served in the protocol it came in (RFC 9110 §7.8).
            request.head = attrs.evolve(head, extra=attrs.evolve(target, upgrade=""))
            request.body = BytesBody()
            if timeout:
                request.stream.limit(request.started + timeout)
            return handler(request)
        # The route's time is for the grant. A tunnel takes the time it takes.
        return _granted_within(handler, request, timeout) if timeout else handler(request)


async def _granted_within(handler: Handler, request: Request, seconds: float) -> Response:
    with trio.move_on_after(seconds):
        return await handler(request)
    raise DeadlineExceeded(f"the tunnel was not granted within {seconds:g} s (route timeout)")


@final
class TimedBody(WrappedBody):
    """A request body whose end starts the clock of the route's timeout."""

    __slots__ = ("_clock", "_stream", "_timeout")

    def __init__(self, request: Request, timeout: float, clock: Callable[[], float]) -> None:
        super().__init__(request.body)
        self._stream = request.stream  # not the request, which knows this
        self._timeout = timeout
        self._clock = clock

    def ended(self, how: BodyEnding) -> None:
        """See WrappedBody."""
        if isinstance(how, Complete):
            self._stream.limit(self._clock() + self._timeout)

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote."""
        return self.inner, Note(ROUTER, (self._timeout,))


async def _at_once(answer: Response) -> Response:
    return answer


def _named(request: Request) -> str:
    """Name a request in one line, without its query (which may hold secrets) and cut to a bounded length."""
    head = request.head
    if isinstance(head.extra, Target):
        name = f"{head.method} {head.service}{head.path.partition('?')[0]}"
    else:
        name = f"{head.service}.{head.method}".strip(".") or request.connection.protocol
    return repr(name if len(name) <= 200 else name[:200] + "…")


def _unknown_cluster(request: Request) -> Awaitable[Response]:
    raise ClusterNotFound(
        f"route {request.record.route!r} names cluster {request.record.cluster!r}: not there"
    )


def _unanswered(request: Request) -> Awaitable[Response]:
    raise ClusterNotFound(
        f"route {request.record.route!r} has no cluster, and none of its filters answered"
    )
