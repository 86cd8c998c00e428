"""A route: the conditions of its requests, and what is done with them."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar, final

import attrs

from xproxy.config.schema import RouteConfig
from xproxy.model.message import RequestHead
from xproxy.routing.beside import Beside
from xproxy.routing.fraction import DRAWN, Draw, fraction_test
from xproxy.routing.hash_policy import HashPolicies
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
    find_cookie,
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
from xproxy.routing.metadata_match import MetadataMatch
from xproxy.routing.mirror import Mirror
from xproxy.routing.priority import prioritised
from xproxy.routing.rewrite import Rewrite
from xproxy.stream.exchange import ConnectionFacts, Filter

T = TypeVar("T")

DEFAULT_TIMEOUT: Final = 15.0
"""Seconds from the end of a request to the end of its response, where neither route nor client says another time."""


@final
class WeightedClusters:
    """Clusters by weight: half-open ranges in the order of the configuration.

    With weights 10 and 90 the values 0 … 9 mean the first and 10 … 99 the second. A weight of 0 is an empty range;
    none is below 0, and not all are 0.
    """

    __slots__ = ("_ends", "_names", "total", "weights")

    weights: Final[Mapping[str, int]]
    total: Final[int]

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = dict(weights)
        self.total = sum(weights.values())
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
    steering: tuple[Filter, ...] = ()
    """Outside of these: what says which endpoint is chosen."""
    cluster_header: str | None = None
    """Who names the cluster; ``cluster`` is None then."""
    weight_header: str | None = None
    """Whose number chooses among weighted clusters."""
    fallback: str | None = None
    """The cluster that takes the place of one without endpoints."""
    mirrors: tuple[Mirror, ...] = ()
    beside: Beside | None = None
    """Who runs its mirrors, and counts; None: it has nothing of this."""
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


def build_route(
    config: RouteConfig, default_name: str, draw: Draw | None = None, beside: Beside | None = None
) -> Route:
    """Return the route of a configuration in which nothing is wrong (``config.checks``).

    ``draw``: what all routes of its table draw; ``beside``: who runs their mirrors. Made here if not given.
    """
    cluster = config.cluster
    name = config.name or default_name
    wanted = bool(config.mirrors) or config.fallback_cluster is not None
    beside = (beside or Beside(name)) if wanted else None
    return Route(
        name,
        tuple(_conditions(config, draw)),
        WeightedClusters(cluster) if isinstance(cluster, dict) else cluster,
        config.timeout,
        tuple(entry.options for entry in config.filters),
        tuple(_steering(config)),
        config.cluster_header,
        config.weight_header,
        config.fallback_cluster,
        tuple(Mirror(one, name, beside) for one in config.mirrors) if beside is not None else (),
        beside,
        config.allow_connect,
        frozenset(name.lower() for name in config.allow_upgrade),
    )


def _steering(config: RouteConfig) -> Iterator[Filter]:
    if config.priority == "high":
        yield prioritised
    if config.hash_policy:
        yield HashPolicies(config.hash_policy)
    if config.metadata_match:
        yield MetadataMatch(config.metadata_match)
    if config.rewrite is not None:
        yield Rewrite(config.rewrite, config.match.path)


def _conditions(config: RouteConfig, draw: Draw | None) -> Iterator[Condition]:
    """Give each condition; cheap tests come first."""
    match = config.match
    if match.protocol is not None:
        wanted, holds = one_of(match.protocol)
        yield Condition("protocol", wanted, find_protocol(match.protocol), holds, True, find_codec)
    if match.port is not None:
        yield _make("port", find_port, one_of, (str(match.port),), on_connection=True)
    if config.hosts:
        yield _make("host", find_host, host_test, config.hosts, host_keys)
    if match.method is not None:
        yield _make("method", find_method(match.method), one_of, match.method)
    if match.service is not None:
        find = find_service(match.service.exact)
        yield _make("service", find, text_test, match.service, service_keys)
    if match.path is not None:
        yield _make("path", find_path, path_test, match.path, path_keys)
    for name, test in (match.headers or {}).items():
        lower = name.lower()
        compare = name_test if lower in TOKENS else text_test
        yield _make(f"header {name}", find_header(name), compare, test, field=lower)
    for name, test in (match.cookies or {}).items():
        yield _make(f"cookie {name}", find_cookie(name), text_test, test, field="cookie")
    for name, test in (match.query or {}).items():
        yield _make(f"query {name}", find_parameter(name), text_test, test)
    for name, test in (match.arguments or {}).items():
        yield _make(f"argument {name}", find_argument(name), text_test, test)
    if match.tls is not None:
        yield _make("tls", find_tls, presence_test, match.tls, on_connection=True)
    if match.alpn is not None:
        yield _make("alpn", find_alpn, one_of, match.alpn, on_connection=True)
    if match.peer_identity is not None:
        test = match.peer_identity
        yield _make("peer_identity", find_peer_identity, text_test, test, on_connection=True)
    if match.sni is not None:
        yield _make("sni", find_sni, name_test, match.sni, name_keys, on_connection=True)
    if match.source is not None:
        yield _make("source", find_source, network_test, match.source, on_connection=True)
    if match.fraction is not None:
        drawn = draw or Draw()
        wanted, holds = fraction_test(match.fraction)
        yield Condition(DRAWN, wanted, drawn.find, holds, draw=drawn)


def _make(
    what: str,
    find: Find,
    make_test: Callable[[T], tuple[str, Holds]],
    value: T,
    keys_of: Callable[[T], Keys] = lambda _: (),
    *,
    on_connection: bool = False,
    field: str = "",
) -> Condition:
    wanted, holds = make_test(value)
    return Condition(
        what,
        wanted,
        find,
        holds,
        on_connection,
        keys=keys_of(value),
        field=field,
        refuses=getattr(value, "regex", None) is not None,
    )
