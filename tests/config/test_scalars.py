"""Single values; test_structure.py reads each of them as a field."""

from __future__ import annotations

from typing import Literal

import pytest

from xproxy.config.findings import Problem
from xproxy.config.scalars import BUILTIN_HOOKS, SCALAR_HOOKS, structure_enum, structure_literal
from xproxy.model.limits import Duration, Size
from xproxy.model.status import Status


@pytest.mark.parametrize(
    ("type_", "value", "suggestion"),
    [
        (bool, "yes", "true"),
        (bool, "OFF", "false"),
        (bool, "maybe", ""),
        (str, 1.5, '"1.5"'),
        (Duration, "10 sec", "10s"),
        (Size, "64k", "64KiB"),
    ],
)
def test_suggestions(type_: type, value: object, suggestion: str) -> None:
    hook = BUILTIN_HOOKS.get(type_) or SCALAR_HOOKS[type_]
    with pytest.raises(Problem) as caught:
        hook(value, type_)
    assert caught.value.suggestion == suggestion


def test_zero_needs_no_unit() -> None:
    assert SCALAR_HOOKS[Duration](0, Duration) == 0
    assert SCALAR_HOOKS[Size](0, Size) == 0
    for type_ in (Duration, Size):
        with pytest.raises(Problem):
            SCALAR_HOOKS[type_](False, type_)


def test_a_literal_is_told_from_its_equals() -> None:
    assert structure_literal(1, Literal[1, "x"]) == 1
    with pytest.raises(Problem):
        structure_literal(True, Literal[1, "x"])


def test_enum_labels() -> None:
    assert structure_enum("deadline-exceeded", Status) is Status.DEADLINE_EXCEEDED
    with pytest.raises(Problem, match='found "4"'):
        structure_enum("4", Status)
