"""A route: the conditions of its requests, and what is done with them."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, TypeAlias, TypeVar, final

import attrs

from xproxy.config.schema import RouteConfig
from xproxy.model.message import RequestHead
from xproxy.routing.hosts import host_test
from xproxy.routing.keys import Keys, host_keys, name_keys, path_keys, service_keys
from xproxy.routing.match import (
    TOKENS,
    Condition,
    Failure,
    Find,
    Holds,
    find_alpn,
    find_argument,
    find_codec,
    find_header,
    find_host,
    find_method,
    find_parameter,
    find_path,
    find_peer_identity,
    find_port,
    find_protocol,
    find_service,
    find_sni,
    find_source,
    find_tls,
    name_test,
    network_test,
    one_of,
    path_test,
    presence_test,
    text_test,
)
from xproxy.stream.exchange import ConnectionFacts, Filter

Path: TypeAlias = tuple[str | int, ...]
"""Where in a route's configuration, e.g. ``("match", "headers", "cookie")``."""

T = TypeVar("T")

DEFAULT_TIMEOUT: Final = 15.0
"""Seconds from the end of a request to the end of its response, where neither route nor client says another time."""
_PROTOCOL: Final = re.compile(
    r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}"
)  # RFC 9110 §16.7, without a version
_MAX_WEIGHT: Final = 2**32 - 1


@final
class WeightedClusters:
    """Clusters by weight: half-open ranges in the order of the configuration.

    With weights 10 and 90 the values 0 … 9 mean the first and 10 … 99 the second. A weight of 0 is an empty range.
    """

    __slots__ = ("_ends", "_names", "total", "weights")

    weights: Final[Mapping[str, int]]
    total: Final[int]

    def __init__(self, weights: Mapping[str, int]) -> None:
        negative = [name for name, weight in weights.items() if weight < 0]
        if negative:
            raise ValueError(f"the weight of {negative[0]!r} is below 0")
        self.weights = dict(weights)
        self.total = sum(weights.values())
        if not 0 < self.total <= _MAX_WEIGHT:
            raise ValueError(f"weights add up to {self.total}, allowed: 1 … {_MAX_WEIGHT}")
        chosen = [(name, weight) for name, weight in weights.items() if weight]
        self._names = [name for name, _ in chosen]
        self._ends = list(itertools.accumulate(weight for _, weight in chosen))

    def pick(self, value: int) -> str:
        """Return the cluster for a random ``value`` ≥ 0, taken modulo the total weight."""
        # bisect_right: a value equal to the end of a range belongs to the next one. (MOSN subtracts and tests <= 0,
        # so there it falls into the earlier one, and a weight of 0 can win.)
        return self._names[bisect.bisect_right(self._ends, value % self.total)]


@attrs.frozen(eq=False)
class Route:
    """Which requests go to which cluster, ready to use. Equal only to itself."""

    name: str
    conditions: tuple[Condition, ...]
    """All must hold; none: every request."""
    cluster: str | WeightedClusters | None
    """None: one of the filters answers."""
    timeout: float | None
    """Seconds; 0: none; None: ``DEFAULT_TIMEOUT`` for requests that say nothing of their own."""
    filters: tuple[Filter, ...] = ()
    """The first one outermost."""
    allow_connect: bool = False
    allow_upgrade: frozenset[str] = frozenset()
    """Protocols in lower case."""

    def matches(self, head: RequestHead, facts: ConnectionFacts) -> bool:
        """Tell whether all conditions hold; stops at the first that does not."""
        # A loop: all() over a generator costs 0.3 µs more.
        for condition in self.conditions:  # noqa: SIM110
            if not condition.holds(condition.find(head, facts)):
                return False
        return True

    def failures(self, head: RequestHead, facts: ConnectionFacts) -> tuple[Failure, ...]:
        """Return every condition that does not hold; none: the route matches."""
        found = (condition.fails(head, facts) for condition in self.conditions)
        return tuple(failure for failure in found if failure is not None)


@attrs.frozen
class Fault:
    """One thing that is wrong with a route's configuration."""

    path: Path
    """From the route down, e.g. ``("match", "path")``."""
    message: str


def build_route(config: RouteConfig, default_name: str) -> tuple[Route | None, tuple[Fault, ...]]:
    """Return the route, or everything that is wrong with it."""
    faults: list[Fault] = []
    conditions: list[Condition] = []
    for path, make in _planned(config):
        try:
            conditions.append(make())
        except ValueError as error:
            faults.append(Fault(path, str(error)))
    cluster: str | WeightedClusters | None = None
    try:
        cluster = _cluster(config.cluster)
    except ValueError as error:
        faults.append(Fault(("cluster",), str(error)))
    for index, name in enumerate(config.allow_upgrade):
        if _PROTOCOL.fullmatch(name) is None:
            faults.append(
                Fault(("allow_upgrade", index), f"{name!r} is not the name of a protocol")
            )
    filters: list[Filter] = []
    for index, entry in enumerate(config.filters):
        if callable(entry.options):
            filters.append(entry.options)
        else:
            faults.append(Fault(("filters", index), f"{entry.name!r} is not loaded as a filter"))
    # ``terminal`` is a class attribute of filters that answer themselves (direct_response, redirect).
    if config.cluster is None and not any(getattr(one, "terminal", False) for one in filters):
        faults.append(
            Fault((), "needs a cluster, or a filter that answers (direct_response, redirect)")
        )
    if faults:
        return None, tuple(faults)
    route = Route(
        config.name or default_name,
        tuple(conditions),
        cluster,
        config.timeout,
        tuple(filters),
        config.allow_connect,
        frozenset(name.lower() for name in config.allow_upgrade),
    )
    return route, ()


def _cluster(config: str | dict[str, int] | None) -> str | WeightedClusters | None:
    return WeightedClusters(config) if isinstance(config, dict) else config


def _planned(config: RouteConfig) -> Iterator[tuple[Path, Callable[[], Condition]]]:
    """Give where each condition stands and how to make it; cheap tests come first."""
    match = config.match
    if match.protocol is not None:
        yield ("match", "protocol"), partial(_protocol, match.protocol)
    if match.port is not None:
        yield _plan("port", find_port, one_of, (str(match.port),), on_connection=True)
    if config.hosts:
        keys = partial(host_keys, config.hosts)
        yield ("hosts",), partial(_make, "host", find_host, host_test, config.hosts, keys)
    if match.method is not None:
        yield _plan("method", find_method(match.method), one_of, match.method)
    if match.service is not None:
        find, keys = find_service(match.service.exact), partial(service_keys, match.service)
        yield _plan("service", find, text_test, match.service, keys)
    if match.path is not None:
        yield _plan("path", find_path, path_test, match.path, partial(path_keys, match.path))
    for name, test in (match.headers or {}).items():
        lower = name.lower()
        compare = name_test if lower in TOKENS else text_test
        what = f"header {name}"
        make = partial(_make, what, find_header(name), compare, test, field=lower)
        yield ("match", "headers", name), make
    for name, test in (match.query or {}).items():
        make = partial(_make, f"query {name}", find_parameter(name), text_test, test)
        yield ("match", "query", name), make
    for name, test in (match.arguments or {}).items():
        make = partial(_make, f"argument {name}", find_argument(name), text_test, test)
        yield ("match", "arguments", name), make
    if match.tls is not None:
        yield _plan("tls", find_tls, presence_test, match.tls, on_connection=True)
    if match.alpn is not None:
        yield _plan("alpn", find_alpn, one_of, match.alpn, on_connection=True)
    if match.peer_identity is not None:
        test = match.peer_identity
        yield _plan("peer_identity", find_peer_identity, text_test, test, on_connection=True)
    if match.sni is not None:
        keys = partial(name_keys, match.sni)
        yield _plan("sni", find_sni, name_test, match.sni, keys, on_connection=True)
    if match.source is not None:
        yield _plan("source", find_source, network_test, match.source, on_connection=True)


def _protocol(names: tuple[str, ...]) -> Condition:
    wanted, holds = one_of(names)
    return Condition("protocol", wanted, find_protocol(names), holds, True, find_codec)


def _plan(
    key: str,
    find: Find,
    make_test: Callable[[T], tuple[str, Holds]],
    value: T,
    keys: Callable[[], Keys] = tuple,
    *,
    on_connection: bool = False,
) -> tuple[Path, Callable[[], Condition]]:
    make = partial(_make, key, find, make_test, value, keys, on_connection=on_connection)
    return ("match", key), make


def _make(
    what: str,
    find: Find,
    make_test: Callable[[T], tuple[str, Holds]],
    value: T,
    keys: Callable[[], Keys] = tuple,
    *,
    on_connection: bool = False,
    field: str = "",
) -> Condition:
    wanted, holds = make_test(
        value
    )  # which raises where the value is wrong; its keys are asked for after that
    return Condition(
        what,
        wanted,
        find,
        holds,
        on_connection,
        keys=keys(),
        field=field,
        refuses=getattr(value, "regex", None) is not None,
    )
