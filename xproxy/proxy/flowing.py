"""An exchange that another process had begun, put together from what it wrote down and from what there is here.

In two steps. ``Revival.find`` looks for everything that can be lacking, or wrong, and changes nothing: before it the
other process has the exchange. ``Revival.begin`` cannot fail for what it has found, and counts what is under way from
then on.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

from xproxy.connection.flowing import FlowingExchange
from xproxy.connection.plain import request_of, response_head
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.serial.flowing import Begun
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.model.errors import StreamError
from xproxy.model.message import ResponseHead
from xproxy.proxy.active_listener import ActiveListener
from xproxy.proxy.adopting import Adoption, Described
from xproxy.proxy.snapshot import ListenerPlan, Snapshot
from xproxy.registry import Registry
from xproxy.routing.router import ROUTER
from xproxy.stream.body import BytesBody
from xproxy.stream.chain import filter_name
from xproxy.stream.exchange import ConnectionFacts, Request, Response
from xproxy.stream.links import Note, Plain, SupportsRelink, places
from xproxy.transport.listener import address_of
from xproxy.transport.poller import PolledSocket, Poller
from xproxy.transport.stream import ByteStream
from xproxy.transport.tls.state import load
from xproxy.transport.tls.stream import resume


@attrs.frozen(eq=False)
class _Link:
    maker: SupportsRelink
    fields: tuple[Plain, ...]

    def put(self, request: Request, response: Response) -> None:
        self.maker.relink(request, response, self.fields)


@attrs.frozen(eq=False)
class Revival:
    """All that is needed to go on with an exchange. Used once, or not at all."""

    told: FlowingExchange
    _cluster: Callable[[ByteStream, Request], tuple[SerialUpstream, Response]]
    _requests: tuple[_Link, ...]
    # The links of its body, from its connection on.
    _responses: tuple[_Link, ...]
    # Those of the response, likewise.

    @classmethod
    def find(
        cls,
        snapshot: Snapshot,
        plan: ListenerPlan,
        facts: ConnectionFacts,
        told: FlowingExchange,
    ) -> Revival:
        """Look for all of it; ``facts`` are those of the client's connection here. Raises ValueError."""
        cluster = snapshot.clusters.get(told.upstream.cluster)
        if cluster is None:
            raise ValueError(f"there is no cluster {told.upstream.cluster}")
        if told.upstream.parts.stream:
            load(told.upstream.parts.stream)
        makers = _makers(snapshot, plan, told.told.route)
        names = [name for name, _ in makers]
        requests = [
            _link(makers[at][1], note)
            for note, at in zip(told.up.notes, places(told.up.notes, names), strict=True)
        ]
        names.reverse()
        makers.reverse()
        # A filter puts its body first, then what it holds, and only then it is the turn of the one further out.
        found = [
            (at, kind, note)
            for kind, notes in enumerate((told.down.notes, told.leases))
            for note, at in zip(notes, places(notes, names), strict=True)
        ]
        found.sort(key=lambda one: one[:2])
        responses = [_link(makers[at][1], note) for at, _, note in found]
        revival = cls(told, cluster.continuation(facts, told), tuple(requests), tuple(responses))
        revival._rehearse(facts)
        return revival

    def _rehearse(self, facts: ConnectionFacts) -> None:
        # What filters say against their fields is to be heard before anything is changed.
        request = request_of(self.told, facts, _NOBODY, BytesBody())
        self._put_links(request, Response(response_head(self.told.answer), BytesBody()))

    def _put_links(self, request: Request, response: Response) -> None:
        for link in self._requests:
            link.put(request, response)
        for link in self._responses:
            link.put(request, response)

    def begin(self, driver: SerialDownstream, upstream: ByteStream) -> None:
        """Let ``driver``, when it runs, go on with the exchange first; ``upstream`` is its other end's stream."""
        request = driver.take(self.told)
        connection, response = self._cluster(upstream, request)
        self._put_links(request, response)
        driver.go_on(Begun(request, response, connection, self.told))


@attrs.define(eq=False)
class ExchangeAdoption:
    """A connection that can go on here with its exchange. Exactly one of ``begin`` and ``drop`` is to be called."""

    _adoption: Adoption
    _driver: SerialDownstream
    _revival: Revival
    _under: PolledSocket
    _stream: ByteStream

    def begin(self) -> None:
        """It is ours: serve it."""
        self._revival.begin(self._driver, self._stream)
        self._adoption.begin()

    def drop(self) -> None:
        """It is not ours: close our copies of both sockets, of which no peer notices anything."""
        self._under.close()
        self._adoption.drop()


def adopt_exchange(
    adoption: Adoption, told: FlowingExchange, snapshot: Snapshot, poller: Poller
) -> ExchangeAdoption:
    """Add the exchange of a connection that can go on here. Raises ValueError: the connection stays the caller's."""
    connection = adoption.connection
    driver, terms, sock = connection.driver, connection.terms, told.upstream.sock
    if not isinstance(driver, SerialDownstream) or terms is None or sock is None:
        raise ValueError("an exchange came without its connections")
    revival = Revival.find(snapshot, adoption.active.plan, terms.facts, told)
    sock.setblocking(False)
    try:
        under = poller.add(sock, address_of(sock, peer=True), address_of(sock))
    except OSError as exc:
        raise ValueError(f"its upstream connection cannot be watched: {exc.strerror}") from exc
    under.upstream = True
    stream: ByteStream = under
    if told.upstream.parts.stream:
        try:
            stream = resume(under, told.upstream.parts.stream)
        except ValueError:
            under.close()
            raise
    return ExchangeAdoption(adoption, driver, revival, under, stream)


def rehearse_exchange(
    active: ActiveListener,
    described: Described,
    told: FlowingExchange,
    snapshot: Snapshot,
    registry: Registry,
) -> None:
    """Raise ValueError where an exchange could not go on here."""
    facts = ConnectionFacts(
        id=described.id,
        listener=active.config.name,
        protocol=described.codec,
        traits=registry.codec(described.codec).traits,
        peer=described.peer,
        local=described.local,
    )
    Revival.find(snapshot, active.plan, facts, told)


def _makers(snapshot: Snapshot, plan: ListenerPlan, route_name: str) -> list[tuple[str, object]]:
    # Who could have made a link, from the outermost on.
    makers: list[object] = [one.options for one in plan.config.filters]
    found = [(filter_name(type(one)), one) for one in makers]
    if plan.config.routes is not None:
        router = snapshot.routers[plan.config.routes]
        found.append((ROUTER, router))
        route = router.route(route_name)
        if route is not None:
            found += [(filter_name(type(one)), one) for one in route.filters]
    return found


def _link(maker: object, note: Note) -> _Link:
    if not isinstance(maker, SupportsRelink):
        raise ValueError(f"the filter {note.by} goes on with nothing here")
    return _Link(maker, note.fields)


class _Nobody:
    """A stream that is nobody's, for a rehearsal."""

    deadline = math.inf

    def limit(self, deadline: float) -> None: ...
    def touch(self) -> None: ...
    def hold(self, count: int) -> None: ...
    def interruption(self) -> StreamError | None:
        return None

    def start_soon(self, work: object) -> bool:
        return False

    async def send_interim(self, head: ResponseHead) -> None: ...


_NOBODY = _Nobody()
