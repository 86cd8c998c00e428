"""An index over routes: which of many can match at all, in the order in which they stand.

Each route is filed under one text that it names: a host, path, service or server name. Routes that share one are
filed again by another; those that name none are always looked at. So what is looked at is a superset of what matches,
and the first of it that matches is the first of all.

The index holds a route as often as it names such texts, and that many times again at most for each kind of them.
"""

from __future__ import annotations

import bisect
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Final, TypeAlias, final

from xproxy.model.authority import split_port
from xproxy.model.message import RequestHead
from xproxy.routing.keys import Key, Keys, Place
from xproxy.routing.match import Condition, Find, find_host, find_path, find_service, find_sni
from xproxy.routing.route import Route
from xproxy.stream.exchange import ConnectionFacts

Entry: TypeAlias = tuple[int, Route, tuple[Condition, ...]]
"""Where a route stands in its table, the route, and what is left to be tested of it."""

FEW: Final = 3
"""Routes that are tried one after the other as fast as they are looked up (measured: a look-up costs as one and a
half)."""
_MOST_SORTED: Final = 64
"""Entries that are brought into order at once; more of them are merged as they are asked for."""
_FINDERS: Final[dict[str, Find]] = {
    "host": find_host,
    "path": find_path,
    "service": find_service(None),
    "sni": find_sni,
}
"""By what a condition looks at: how to find the text that its keys are about."""
_PLACE_IN_TABLE: Final[Callable[[Entry], int]] = itemgetter(0)


@final
class Index:
    """Finds the routes of a table that can match a request."""

    __slots__ = ("_top",)

    def __init__(self, routes: Sequence[Route]) -> None:
        entries = tuple((place, route, route.conditions) for place, route in enumerate(routes))
        self._top = _filed(entries, tuple(_FINDERS))

    @property
    def useful(self) -> bool:
        """Some routes need not be looked at."""
        return isinstance(self._top, _File)

    def candidates(self, head: RequestHead, facts: ConnectionFacts) -> Iterable[Entry]:
        """Give the routes that can match, in the order of the table; one may come twice. Pure."""
        top = self._top
        if not isinstance(top, _File):
            return top
        found: list[tuple[Entry, ...]] = []
        top.collect(head, facts, found)
        if len(found) == 1:
            return found[0]
        if len(found) == 2:
            one, other = found
            # As with a catch-all at the end: no tuple is empty.
            if one[-1][0] < other[0][0]:
                return one + other
            if other[-1][0] < one[0][0]:
                return other + one
        if sum(map(len, found)) <= _MOST_SORTED:
            return sorted([e for entries in found for e in entries], key=_PLACE_IN_TABLE)
        return heapq.merge(*found, key=_PLACE_IN_TABLE)


@final
class _File:
    """Entries by one of the texts that they name."""

    __slots__ = ("_ends", "_find", "_ported", "_rest", "_starts", "_wholes")

    def __init__(self, what: str, entries: Sequence[Entry], below: tuple[str, ...]) -> None:
        places: dict[Place, dict[str, list[Entry]]] = {place: {} for place in Place}
        rest: list[Entry] = []
        for entry in entries:
            at, keys = _keys(entry, what)
            if not keys:
                rest.append(entry)
            for key in keys:
                number, route, conditions = entry
                left = conditions[:at] + conditions[at + 1 :] if key.proves else conditions
                places[key.place].setdefault(key.text, []).append((number, route, left))
        filed = {
            place: {text: _filed(tuple(them), below) for text, them in found.items()}
            for place, found in places.items()
        }
        self._find = _FINDERS[what]
        self._ported = what == "host"
        self._wholes = filed[Place.WHOLE]
        self._starts = _Starts(filed[Place.START]) if filed[Place.START] else None
        ends = {text[::-1]: them for text, them in filed[Place.END].items()}
        self._ends = _Starts(ends) if ends else None
        self._rest = _filed(tuple(rest), below) if rest else None

    def collect(
        self, head: RequestHead, facts: ConnectionFacts, into: list[tuple[Entry, ...]]
    ) -> None:
        """Add to ``into`` what can match, each tuple of it in order."""
        text = self._find(head, facts)
        found: list[_Filed] = []
        if text is not None:
            wholes = self._wholes
            if text in wholes:
                found.append(wholes[text])
            if self._ported:
                bare, port = split_port(text)
                if port and bare in wholes:
                    found.append(wholes[bare])
                text = bare
            if self._starts is not None:
                self._starts.collect(text, found)
            if self._ends is not None:
                self._ends.collect(text[::-1], found)
        if self._rest is not None:
            found.append(self._rest)
        for one in found:
            if isinstance(one, _File):
                one.collect(head, facts, into)
            else:
                into.append(one)


@final
class _Starts:
    """Finds all texts that another one begins with, by a search among them in their order.

    Between a text and the longest of its beginnings stands nothing that has not this beginning too. So the text just
    before it is that beginning, or leads to it.
    """

    __slots__ = ("_filed", "_longest_within", "_texts")

    def __init__(self, filed: dict[str, _Filed]) -> None:
        self._texts = sorted(filed)
        self._filed = [filed[text] for text in self._texts]
        self._longest_within: list[int] = []
        """For each text the place of the longest other one that it begins with; -1: there is none."""
        within: list[int] = []
        for place, text in enumerate(self._texts):
            while within and not text.startswith(self._texts[within[-1]]):
                within.pop()
            self._longest_within.append(within[-1] if within else -1)
            within.append(place)

    def collect(self, text: str, into: list[_Filed]) -> None:
        place = bisect.bisect_right(self._texts, text) - 1
        while place >= 0 and not text.startswith(self._texts[place]):
            place = self._longest_within[place]
        while place >= 0:
            into.append(self._filed[place])
            place = self._longest_within[place]


_Filed: TypeAlias = _File | tuple[Entry, ...]


def _filed(entries: tuple[Entry, ...], kinds: tuple[str, ...]) -> _Filed:
    """File entries by the kind of text that leaves the fewest to be looked at; if none saves anything, by none."""
    if len(entries) <= FEW or not kinds:
        return entries
    costs = {what: _cost(entries, what) for what in kinds}
    best = min(kinds, key=lambda what: costs[what])
    if len(entries) - costs[best] < FEW:
        return entries
    return _File(best, entries, tuple(what for what in kinds if what != best))


def _cost(entries: Sequence[Entry], what: str) -> int:
    """Return how many entries would be looked at for the text that most of them name."""
    counted: Counter[Key | None] = Counter()
    for entry in entries:
        counted.update(_keys(entry, what)[1] or (None,))
    rest = counted.pop(None, 0)
    return rest + max(counted.values(), default=0)


def _keys(entry: Entry, what: str) -> tuple[int, Keys]:
    """Return the place of the condition that looks at ``what``, and its keys, if the entry can be filed by them.

    A test that may refuse the request altogether (a long text, where a regex is slow) is not passed over: what is
    tested after it is of no use here.
    """
    for place, condition in enumerate(entry[2]):
        if condition.what == what:
            return place, condition.keys
        if condition.refuses:
            break
    return 0, ()
