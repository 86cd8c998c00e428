"""Values that could be read in part only."""

from __future__ import annotations

import attrs
import pytest

from xproxy.config.findings import Problem, show_path
from xproxy.config.partial import UNREAD, PartlyRead, entries, parts, problems_of, rest_of
from xproxy.config.schema import (
    ClusterConfig,
    Config,
    EndpointConfig,
    ListenerConfig,
    MatchConfig,
    PathMatch,
    RouteConfig,
)
from xproxy.config.structure import build_converter
from xproxy.config.tls import ListenerTlsConfig
from xproxy.model.address import Address


def read(value: object, cls: type) -> tuple[object, list[str]]:
    """Read what is wrong; return what there is of it, and where it is wrong."""
    with pytest.raises((Problem, PartlyRead)) as caught:
        build_converter().structure(value, cls)
    return rest_of(caught.value), [show_path(one.at) for one in problems_of(caught.value)]


def test_the_rest_is_there_with_defaults() -> None:
    cluster, paths = read(
        {"endpoints": ["h:1", "h", {"address": "h:2", "weight": "x"}], "codec": 5}, ClusterConfig
    )
    assert paths == ["endpoints[1].address", "endpoints[2].weight", "codec"]
    assert isinstance(cluster, ClusterConfig)
    good, bad, partial = cluster.endpoints
    assert good == EndpointConfig(address=Address("h", 1))
    assert bad.address is UNREAD
    assert (partial.address, partial.metadata) == (Address("h", 2), {})
    assert repr((partial.weight, cluster.codec)) == "(UNREAD, UNREAD)"
    assert cluster.limits == attrs.fields(ClusterConfig).limits.default


def test_a_value_out_of_bounds_is_there_all_the_same() -> None:
    listener, paths = read({"name": "", "address": "h:1", "backlog": 0}, ListenerConfig)
    assert paths == ["name", "backlog"]
    assert isinstance(listener, ListenerConfig)
    assert listener.backlog == 0


def test_bounds_are_told_beside_what_cannot_be_read() -> None:
    assert read({"name": 1, "address": "h:1", "backlog": 0}, ListenerConfig)[1] == [
        "name",
        "backlog",
    ]


def test_mappings_keep_what_could_be_read() -> None:
    config, paths = read(
        {"listeners": 1, "routes": {"a": [{"cluster": "c"}, 1], "b": 2}, "clusters": []}, Config
    )
    assert paths == ["listeners", "routes.a[1]", "routes.b", "clusters"]
    assert isinstance(config, Config)
    assert config.routes == {"a": (RouteConfig(cluster="c"), UNREAD), "b": UNREAD}
    assert config.clusters is UNREAD


@pytest.mark.parametrize(
    ("cls", "written", "key", "left"),
    [
        (RouteConfig, {"clutser": "c"}, "cluster", UNREAD),
        (RouteConfig, {"elsewhere": "c"}, "cluster", None),
        (ListenerTlsConfig, {"certificats": []}, "certificates", UNREAD),
        (MatchConfig, {"meth": "GET"}, "method", UNREAD),
        # Whatever stands where one of several keys is needed was to be one of them …
        (PathMatch, {"elsewhere": "/"}, "exact", UNREAD),
        # … unless one of them is there.
        (PathMatch, {"prefx": "/", "regex": "/"}, "prefix", None),
    ],
)
def test_a_misspelt_key_was_meant(
    cls: type, written: dict[str, object], key: str, left: object
) -> None:
    found, paths = read(written, cls)
    assert paths == [next(iter(written))]
    assert getattr(found, key) is left


def test_of_what_is_no_mapping_nothing_is_left() -> None:
    assert read([], ClusterConfig) == (UNREAD, [""])


def test_a_class_that_needs_its_own_beginning_leaves_nothing() -> None:
    @attrs.define(slots=False)
    class Odd(Exception):
        number: int = 0

    assert read({"number": "x"}, Odd) == (UNREAD, ["number"])


def test_an_error_of_somebody_elses_is_named() -> None:
    (problem,) = problems_of(KeyError("k"), ("a",))
    assert (problem.at, problem.message) == (("a",), "KeyError: k")
    assert rest_of(KeyError("k")) is UNREAD


def test_parts() -> None:
    assert list(parts(["a", UNREAD, "b"])) == [(0, "a"), (2, "b")]
    assert list(entries({"a": 1, "b": UNREAD})) == [("a", 1)]
    assert not [*parts(UNREAD), *parts(None), *entries(UNREAD)]
    assert repr(UNREAD) == "UNREAD"
