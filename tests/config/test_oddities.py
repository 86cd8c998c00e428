"""What is allowed but hardly meant; more of it is in test_load.py, test_never.py and test_tls_checks.py."""

from __future__ import annotations

import pytest

from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text, simple
from xproxy.config.oddities import oddities
from xproxy.registry import Registry


def test_a_file_with_no_oddity() -> None:
    assert list(oddities(simple("127.0.0.1:1", ["127.0.0.1:2"]))) == []


@pytest.mark.parametrize(
    ("admin", "odd"),
    [
        ("127.0.0.1:1", 0),
        ("[::1]:1", 0),
        ("unix:/x", 0),
        ("localhost:1", 0),
        ("10.0.0.1:1", 1),
        ("admin.example:1", 1),
    ],
)
def test_admin_in_the_open(admin: str, odd: int, registry: Registry) -> None:
    text = f"""\
admin: {{address: "{admin}"}}
listeners: [{{name: a, address: "h:1", fallback: {{cluster: c}}}}]
clusters: {{c: {{endpoints: ["h:1"]}}}}
"""
    assert len(list(oddities(load_text(text, "f", registry)))) == odd


def routed(routes: str) -> str:
    return f"""\
listeners: [{{name: a, address: "h:1", routes: main}}]
routes: {{main: [{routes}]}}
clusters: {{c: {{endpoints: ["h:1"]}}, d: {{endpoints: ["h:2"]}}}}
"""


def test_a_weight_of_zero_is_told(registry: Registry) -> None:
    config = load_text(routed("{cluster: {c: 1, d: 0}}"), "f", registry)
    assert list(oddities(config)) == [
        (("routes", "main", 0, "cluster", "d"), "weight 0: it is never chosen")
    ]


@pytest.mark.parametrize(
    "route",
    [
        "{cluster_header: x-to}",  # any may be named
        "{cluster: c, fallback_cluster: d}",
        "{cluster: c, mirrors: [{cluster: d}]}",
    ],
)
def test_clusters_that_routes_lead_to_are_used(registry: Registry, route: str) -> None:
    assert list(oddities(load_text(routed(route), "f", registry))) == []


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("{cluster: c, cluster_header: x}", "`cluster` and `cluster_header` exclude each other"),
        ("{cluster: c, weight_header: x}", "weight_header: needs weights in `cluster`"),
        ("{cluster: c, fallback_cluster: e}", 'fallback_cluster: unknown cluster "e"'),
        ("{cluster: c, mirrors: [{cluster: e}]}", 'mirrors[0].cluster: unknown cluster "e"'),
        ("{cluster: c, rewrite: {prefix: /x}}", "rewrite.prefix: needs `prefix` or"),
        (
            "{match: {headers: {x: {present: true, treat_missing_as_empty: true}}}, cluster: c}",
            "`present` excludes it",
        ),
    ],
)
def test_what_a_route_cannot_mean_is_refused(registry: Registry, route: str, problem: str) -> None:
    with pytest.raises(InvalidConfig) as found:
        load_text(routed(route), "f", registry)
    assert problem in str(found.value)
