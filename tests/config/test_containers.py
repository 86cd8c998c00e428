"""Lists, mappings and unions by themselves; test_structure.py reads each of them as a field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from xproxy.config.findings import Problem, show_path
from xproxy.config.partial import problems_of
from xproxy.config.schema import EndpointConfig, StringMatch
from xproxy.config.structure import build_converter


def _read(value: object, type_: Any) -> object:  # Any: a type form
    return build_converter().structure(value, type_)


@pytest.mark.parametrize(
    ("type_", "value", "read"),
    [
        (tuple[str, ...], "x", ("x",)),
        (list[int], [1], [1]),
        (Sequence[str], ["x"], ("x",)),
        (frozenset[str], ["x", "x"], frozenset({"x"})),
        (tuple[int, str], [1, "x"], (1, "x")),
        (dict[str, tuple[str, ...]], {"a": "x"}, {"a": ("x",)}),
        (int | str, "1", "1"),
        (int | str, 1, 1),
        (Literal["auto"] | tuple[str, ...], "auto", "auto"),
        (Literal["auto"] | tuple[str, ...], "x", ("x",)),
        (str | StringMatch | None, None, None),
        (StringMatch | None, "x", StringMatch(exact="x")),
        (Literal[False] | int, False, False),
    ],
)
def test_what_fits(type_: object, value: object, read: object) -> None:
    assert _read(value, type_) == read


@pytest.mark.parametrize(
    ("type_", "value", "path", "message"),
    [
        (tuple[EndpointConfig, ...], "h:1", "", 'expected a list, found "h:1"'),
        (list[list[int]], [[1], [2, "x"]], "[1][1]", 'expected a whole number, found "x"'),
        (dict[str, list[int]], {"a": [None]}, "a[0]", "expected a whole number, found nothing"),
        (int | None, "x", "", 'expected a whole number, found "x"'),
        (Literal["a"] | int, [], "", "expected a or a whole number, found a list of 0"),
        (Literal["a"] | int, "b", "", 'expected a or a whole number, found "b"'),
    ],
)
def test_what_does_not_fit(type_: object, value: object, path: str, message: str) -> None:
    with pytest.raises((Problem, ExceptionGroup)) as caught:
        _read(value, type_)
    (problem,) = problems_of(caught.value)
    assert (show_path(problem.at), problem.message) == (path, message)
