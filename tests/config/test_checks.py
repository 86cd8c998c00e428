"""What is checked across values; most of it is in the table that test_load.py reads."""

from __future__ import annotations

import pytest

from xproxy.config.checks import Names, class_checks, oddities, unknown
from xproxy.config.findings import Problem
from xproxy.config.load import load_text, simple
from xproxy.config.schema import Config
from xproxy.registry import Registry


def test_names_of_a_document(registry: Registry) -> None:
    names = Names.of({"clusters": {"a": 1, "b": 2}, "routes": []}, registry)
    assert names.clusters == ("a", "b")
    assert names.tables is None, "what is no mapping defines nothing, and nothing is doubted for it"
    assert Names.of("x", registry).clusters == ()


def test_a_name_that_nothing_has() -> None:
    assert str(unknown("cluster", "x", [])) == 'unknown cluster "x"; there is none'
    problem = unknown("cluster", "x", ["y"], at=("z",), key=True)
    assert (problem.at, problem.on_key, problem.allowed) == (("z",), True, ["y"])


def test_a_file_with_no_oddity() -> None:
    assert list(oddities(simple("127.0.0.1:1", ["127.0.0.1:2"]))) == []


@pytest.mark.parametrize(
    "host", ["*", "*:80", "a", "a:80", "a.b:*", "*.a.b", "a.*", "[::1]:80", "a-b_c"]
)
def test_host_patterns(host: str, registry: Registry) -> None:
    text = f"""\
listeners: [{{name: a, address: "h:1", routes: r}}]
routes: {{r: [{{hosts: "{host}", cluster: c}}]}}
clusters: {{c: {{endpoints: ["h:1"]}}}}
"""
    assert load_text(text, "f", registry).routes["r"][0].hosts == (host,)


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


def test_the_same_address_written_in_two_ways(registry: Registry) -> None:
    check = class_checks(Names.of({}, registry))[Config]
    found: list[Problem] = list(
        check({"listeners": [{"address": "[::1]:80"}, {"address": "[::1]:080"}, {"address": 5}, 7]})
    )
    assert [problem.at for problem in found] == [("listeners", 1, "address")]
