"""Filters come out as instances of their own classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xproxy.config.load import load_text
from xproxy.registry import Registry

TEXT = """\
listeners: [{{name: a, address: "h:1", fallback: {{cluster: c}}, filters: [{filter}]}}]
clusters: {{c: {{endpoints: ["h:1"]}}}}
"""


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("again", "Again(on=('reset',), attempts=1, "),
        ("{name: again}", "Again(on=('reset',), attempts=1, "),
        ("{name: again, on: connect-failure, base: 1s}", "Again(on=('connect-failure',), attempts=1, base=1.0, "),
        ("{name: nested, inner: {status: 1}}", "Nested(inner=Answer(status=1, "),
        ("odd", "Odd(call=None)"),
    ],
)  # fmt: skip
def test_instances(registry: Registry, written: str, shown: str) -> None:
    config = load_text(TEXT.format(filter=written), "f", registry)
    (filter_,) = config.listeners[0].filters
    assert str(filter_.options).startswith(shown)
    assert filter_.options.__class__.__module__ == __name__.rpartition(".")[0] + ".conftest"


def test_an_option_that_no_yaml_can_hold(findings: Callable[[str], list[str]]) -> None:
    (found,) = findings(TEXT.format(filter="{name: odd, call: x}"))
    assert "listeners[0].filters[0].call: " in found


def test_private_fields_are_no_options(findings: Callable[[str], list[str]]) -> None:
    (found,) = findings(TEXT.format(filter="{name: again, now: x}"))
    assert "unknown key; allowed: on, attempts, base, statuses, largest" in found
