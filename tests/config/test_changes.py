"""What has changed between two texts, and a configuration with just that read anew."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from cattrs import Converter

from xproxy.config.changes import changes, changing
from xproxy.config.document import read_document
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import converter_for, load_text
from xproxy.config.schema import Config
from xproxy.registry import Registry

BEFORE = """
listeners:
  - {name: edge, address: "127.0.0.1:1", routes: main}
  - {name: other, address: "127.0.0.1:2", routes: second}
routes:
  main:
    - {hosts: [a.test], cluster: a}
    - {hosts: [b.test], cluster: {a: 1, b: 2}}
    - {match: {path: {prefix: /x}}, cluster: b}
  second: [{cluster: b}]
clusters:
  a: {endpoints: ["127.0.0.1:5", {address: "127.0.0.1:6", weight: 2}]}
  b: {endpoints: ["127.0.0.1:7"]}
"""


@pytest.fixture
def converter(registry: Registry) -> Converter:
    return converter_for(registry, Path("/"))


@attrs.define(eq=False)
class Changed:
    """A configuration before and after, and what was said of the difference."""

    before: Config
    after: Config
    items: list[list[Any]]

    @property
    def kinds(self) -> list[str]:
        """What is said beyond what is said always."""
        kept = (["clusters", None], "top", "listener")
        return [
            item[0]
            for item in self.items
            if item not in kept and item[0] not in kept and item[2:] != [None]
        ]


def result_of(work: Generator[None, None, Config]) -> Config:
    """Do all of the work."""
    found: list[Config] = []

    def steps() -> Iterator[None]:
        found.append((yield from work))

    for _ in steps():
        pass
    return found[0]


def change(registry: Registry, before: str, after: str) -> Changed:
    """Go from one text to another one; what comes out is what the other text means."""
    was, wanted = (load_text(text, "test.yaml", registry) for text in (before, after))
    values = read_document(after, "").value
    assert isinstance(values, dict)
    items = list(changes(read_document(before, "").value, values))
    items = [json.loads(json.dumps(item)) for item in items]
    after_all = result_of(changing(was, items, converter_for(registry, Path("/"))))
    assert after_all == wanted
    assert list(after_all.clusters) == list(wanted.clusters)
    return Changed(was, after_all, items)


def test_of_a_weight_one_cluster_is_read_and_all_else_is_the_same(registry: Registry) -> None:
    done = change(registry, BEFORE, BEFORE.replace("weight: 2", "weight: 3"))
    assert done.kinds == ["cluster"]
    assert done.after.clusters["b"] is done.before.clusters["b"]
    assert done.after.clusters["a"] is not done.before.clusters["a"]
    for name in ("main", "second"):
        assert done.after.routes[name] is done.before.routes[name]


def test_of_the_same_text_nothing_is_read(registry: Registry) -> None:
    assert change(registry, BEFORE, BEFORE + "# a comment\n").kinds == []


@pytest.mark.parametrize(
    ("written", "instead", "kinds"),
    [
        ("weight: 2", "weight: 1", ["cluster"]),
        ("{a: 1, b: 2}", "{b: 2, a: 1}", ["table", "route"]),  # which range is whose
        ("    - {hosts: [a.test], cluster: a}\n", "", ["table"]),
        ("hosts: [a.test]", "hosts: [new.test]", ["table", "route"]),
        ("  second: [{cluster: b}]", "  second: []", ["table"]),
        ("second", "renamed", ["table", "route"]),
        ("  b: {end", "  c: {endpoints: ['127.0.0.1:9']}\n  b: {end", ["clusters", "cluster"]),
        ("  b: {", "  b: {codec: http1, ", ["cluster"]),
    ],
)
def test_each_change_is_found(
    written: str, instead: str, kinds: list[str], registry: Registry
) -> None:
    assert written in BEFORE
    done = change(registry, BEFORE, BEFORE.replace(written, instead))
    assert done.kinds == kinds


def test_routes_that_moved_are_the_same_ones(registry: Registry) -> None:
    first = "    - {hosts: [a.test], cluster: a}\n"
    moved = BEFORE.replace(first, "").replace("  second", first + "  second")
    done = change(registry, BEFORE, moved)
    before, after = done.before.routes["main"], done.after.routes["main"]
    assert [before.index(route) for route in after] == [1, 2, 0]
    assert all(any(one is other for other in before) for one in after)


def test_what_may_have_a_state_or_files_is_read_anew(registry: Registry) -> None:
    text = BEFORE.replace("cluster: a}", "cluster: a, filters: [nested]}")
    text = text.replace("  b: {", "  b: {codec: {name: http1}, ")
    done = change(registry, text, text)
    assert done.kinds == ["cluster", "table", "route"]
    before, after = done.before.routes["main"], done.after.routes["main"]
    assert after[0] is not before[0]
    assert after[1] is before[1]


def test_of_no_configuration_everything_is_new(registry: Registry, converter: Converter) -> None:
    wanted = load_text(BEFORE, "test.yaml", registry)
    values = read_document(BEFORE, "").value
    assert isinstance(values, dict)
    for before in (None, [1], {"clusters": 3, "routes": {"main": "x"}}):
        items = list(changes(before, values))
        assert len([item for item in items if item[0] == "cluster"]) == 2
        work = changing(attrs.evolve(wanted, clusters={}, routes={}), items, converter)
        assert result_of(work) == wanted


@pytest.mark.parametrize(
    "item",
    [
        ["cluster", "a", {"endpoints": 3}],
        ["route", 0, {"cluster": 3}],
        ["listener", {"name": "x"}],
        ["top", {}],
    ],
)
def test_what_cannot_be_read_after_all_is_said(
    item: list[Any], registry: Registry, converter: Converter
) -> None:
    config = load_text(BEFORE, "test.yaml", registry)
    work = changing(config, [["table", "main", [-1]], item], converter)
    with pytest.raises(InvalidConfig):
        list(work)


@pytest.mark.parametrize("items", [[], [["nonsense"]]])
def test_what_is_no_change_is_refused(
    items: list[list[Any]], registry: Registry, converter: Converter
) -> None:
    config = load_text(BEFORE, "test.yaml", registry)
    with pytest.raises(ValueError, match="change"):
        list(changing(config, items, converter))
