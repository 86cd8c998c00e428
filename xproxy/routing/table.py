"""A route table: routes in order, the first match wins; and the reasons, for whoever asks.

An index leaves out routes that cannot match (``xproxy/routing/index.py``); explanations go through all of them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, final

import attrs

from xproxy.codecs.memo import HeadMemo, WeakMemo
from xproxy.config.schema import RouteConfig
from xproxy.model.message import RequestHead
from xproxy.routing.beside import Beside
from xproxy.routing.fraction import Draw
from xproxy.routing.index import Index
from xproxy.routing.match import Condition, Failure
from xproxy.routing.route import Route, build_route
from xproxy.stream.exchange import ConnectionFacts, Filter

_MAX_CLASSES: Final = 16
"""Classes of connections remembered at once; they bound the choices remembered to 16 × 512."""
_MAX_TESTS: Final = 64
"""Different tests of connections up to which those for which they all say the same share what is remembered."""
_HEADS_OF_CONNECTION: Final = 16
"""Choices remembered for one connection where they do not."""


@attrs.frozen(eq=False)
class Attempt:
    """A route that was tried."""

    route: str
    failures: tuple[Failure, ...]
    """Every condition that did not hold; none: this route won."""

    def __str__(self) -> str:
        if not self.failures:
            return f"{self.route}: matches"
        return f"{self.route}: " + "; ".join(map(str, self.failures))


@attrs.frozen(eq=False)
class Explanation:
    """How a table came to its choice. ``str()`` gives a line for each route that was tried."""

    table: str
    attempts: tuple[Attempt, ...]
    """In order; routes after the winner were not tried."""
    winner: Route | None

    def __str__(self) -> str:
        end = f"{self.table}: no route matches" if self.winner is None else ""
        return "\n".join([*map(str, self.attempts), *filter(None, [end])])


@final
class RouteTable:
    """Routes in order. Choosing is pure; choices are remembered by the identity of heads that recur.

    But for routes that take a fraction of the requests: then one value is drawn for each, and nothing remembered.

    Facts of a connection must have settled before its first request is routed: where a table looks at the connection,
    what its conditions said is remembered for the facts object. Neither heads nor facts are held for that.
    """

    __slots__ = (
        "_always",
        "_by_facts",
        "_classes",
        "_draws",
        "_fields",
        "_index",
        "_memo",
        "_on_connection",
        "name",
        "routes",
    )

    name: Final[str]
    routes: Final[tuple[Route, ...]]

    def __init__(self, name: str, routes: Sequence[Route]) -> None:
        self.name = name
        self.routes = tuple(routes)
        first = self.routes[0] if self.routes else None
        # A table that begins with a catch-all (every simple configuration) has nothing to look at.
        self._always = first if first is not None and not first.conditions else None
        index = Index(self.routes)
        self._index = index if index.useful else None
        conditions = [condition for route in self.routes for condition in route.conditions]
        self._draws = tuple(dict.fromkeys(c.draw for c in conditions if c.draw is not None))
        self._fields = frozenset(c.field for c in conditions if c.field)
        # Equal tests of several routes say the same of a connection; what they want says which are equal.
        self._on_connection: tuple[Condition, ...] = tuple(
            {(c.what, c.wanted): c for c in conditions if c.on_connection}.values()
        )
        self._memo: HeadMemo[Route] | None = None if self._on_connection else HeadMemo()
        # Connections for which all conditions on connections say the same are one class, with one memory.
        self._classes: dict[tuple[bool, ...], HeadMemo[Route]] = {}
        self._by_facts: WeakMemo[HeadMemo[Route]] = WeakMemo()

    @classmethod
    def build(cls, name: str, routes: Sequence[RouteConfig]) -> RouteTable:
        """Make a table from its configuration, in which nothing is wrong (``config.checks``)."""
        work = cls.building(name, routes)
        while True:
            try:
                next(work)
            except StopIteration as done:
                table: RouteTable = done.value
                return table

    @classmethod
    def building(
        cls, name: str, routes: Sequence[RouteConfig]
    ) -> Generator[None, None, RouteTable]:
        """The same, which yields after each route: there may be very many."""
        built: list[Route] = []
        draw, beside = Draw(), Beside(name)
        for index, config in enumerate(routes):
            built.append(build_route(config, f"{name}[{index}]", draw, beside))
            yield
        return cls(name, built)

    @property
    def depends_on_connection(self) -> bool:
        """Some route looks at more than the head."""
        return bool(self._on_connection)

    @property
    def filters(self) -> tuple[Filter, ...]:
        """Every filter of every route, in order."""
        return tuple(one for route in self.routes for one in route.filters)

    @property
    def beside(self) -> tuple[Beside, ...]:
        """What runs beside its requests: one at most, unless routes were built one by one."""
        return tuple(dict.fromkeys(r.beside for r in self.routes if r.beside is not None))

    def choose(self, head: RequestHead, facts: ConnectionFacts) -> Route | None:
        """Return the first route that matches. A head seen before costs two look-ups.

        So does one that filters have added to, if no route looks at what they added. Raises BadTarget where a text is
        too long for a route's regex.
        """
        if self._always is not None:
            return self._always
        if self._draws:
            return self._drawn(head, facts)
        known = head if head.recurs else self._recurring_part(head)
        if known is None:
            return self._first(head, facts)
        memo = self._memo
        if memo is None:
            memo = self._by_facts.get(facts)
            if memo is None:
                memo = self._by_facts.put(facts, self._class_of(head, facts))
        route = memo.get(known)
        if route is None:
            route = self._first(head, facts)
            if route is not None:
                memo.put(known, route)
        return route

    def _drawn(self, head: RequestHead, facts: ConnectionFacts) -> Route | None:
        # Nothing is remembered: the same head may go elsewhere next time.
        for draw in self._draws:
            draw.anew()
        return self._first(head, facts)

    def _recurring_part(self, head: RequestHead) -> RequestHead | None:
        """Return what is under the additions of filters, if it recurs and no route looks at what was added."""
        base = head.base
        if base is None or not base.recurs:
            return None
        fields = self._fields
        if fields:
            for name, _ in head.added:
                if name.lower() in fields:
                    return None
        return base

    def _first(self, head: RequestHead, facts: ConnectionFacts) -> Route | None:
        index = self._index
        if index is None:
            for route in self.routes:
                if route.matches(head, facts):
                    return route
            return None
        for _, route, conditions in index.candidates(head, facts):
            for condition in conditions:
                if not condition.holds(condition.find(head, facts)):
                    break
            else:
                return route
        return None

    def _class_of(self, head: RequestHead, facts: ConnectionFacts) -> HeadMemo[Route]:
        if len(self._on_connection) > _MAX_TESTS:
            return HeadMemo(_HEADS_OF_CONNECTION)
        key = tuple(
            c.holds((c.find_on_connection or c.find)(head, facts)) for c in self._on_connection
        )
        memo = self._classes.get(key)
        if memo is None:
            if len(self._classes) >= _MAX_CLASSES:
                self._classes.clear()
                self._by_facts = WeakMemo()
            memo = self._classes[key] = HeadMemo()
        return memo

    def explain(self, head: RequestHead, facts: ConnectionFacts) -> Explanation:
        """Try the routes as ``choose`` does, without its memory, and keep every reason."""
        for draw in self._draws:
            draw.anew()
        attempts: list[Attempt] = []
        for route in self.routes:
            attempts.append(Attempt(route.name, route.failures(head, facts)))
            if not attempts[-1].failures:
                return Explanation(self.name, tuple(attempts), route)
        return Explanation(self.name, tuple(attempts), None)
