from __future__ import annotations

import enum
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from xproxy.config.schema import ServerFirstConfig
from xproxy.migration.settings import DIGEST_BYTES, settings_digest
from xproxy.model.limits import Duration


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@attrs.frozen
class Inner:
    paths: tuple[Path, ...] = ()
    names: frozenset[str] = frozenset()
    extra: dict[str, object] = attrs.field(factory=dict)
    learned: int = attrs.field(default=0, eq=False)
    _made: int = attrs.field(default=0, init=False)


def newer() -> type:
    @attrs.frozen
    class Inner:
        paths: tuple[Path, ...] = ()
        added: int = 7

    Inner.__qualname__ = "Inner"
    return Inner


def test_equal_settings_have_one_digest() -> None:
    one = Inner((Path("/a"),), frozenset("xyz"), {"a": 1, "b": [Colour.RED, None]}, 5)
    other = Inner((Path("/a"),), frozenset("zyx"), {"b": [Colour.RED, None], "a": 1}, 6)
    assert settings_digest(one) == settings_digest(other)
    assert len(settings_digest(one)) == DIGEST_BYTES


def test_a_newer_version_with_one_more_field_agrees_until_that_is_set() -> None:
    made = newer()
    assert settings_digest(Inner((Path("/a"),))) == settings_digest(made((Path("/a"),)))
    assert settings_digest(Inner((Path("/a"),))) != settings_digest(made((Path("/a"),), 8))


@pytest.mark.parametrize(
    "other",
    [
        Inner((Path("/b"),)),
        Inner(names=frozenset("x")),
        Inner(extra={"a": 1}),
        Inner(extra={"a": "1"}),
        Inner(extra={"a": True}),
        Inner(extra={"a": Colour.RED}),
        Inner(extra={"a": Colour.BLUE}),
        Inner(extra={"a": re.compile("x")}),
        Inner(extra={"a": re.compile("x", re.IGNORECASE)}),
        Inner(extra={"a": 2**80}),
        Inner(extra={"a": [1]}),
        Inner(extra={"a": {1}}),
        Inner(extra={"a": {"1": 1}}),
        ServerFirstConfig(),
        ServerFirstConfig(wait=Duration(3.0)),
        None,
        (),
        "",
        b"",
    ],
)
def test_others_have_another(other: object) -> None:
    assert settings_digest(other) != settings_digest(Inner())
    assert settings_digest(other) == settings_digest(other)


@pytest.mark.parametrize("unknown", [object(), len, (1, object()), {1: lambda: None}])
def test_what_cannot_be_compared_has_none(unknown: object) -> None:
    with pytest.raises(ValueError, match="is nothing that settings can be"):
        settings_digest(unknown)


def test_depth_has_a_bound() -> None:
    deep: list[object] = []
    deep.append(deep)
    with pytest.raises(ValueError, match="deeper than"):
        settings_digest(deep)


def test_another_process_finds_the_same() -> None:
    code = (
        "from xproxy.migration.settings import settings_digest as d\n"
        "print(d([frozenset('abcdefgh'), {'a': 1.5}]).hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {settings_digest([frozenset("abcdefgh"), {"a": 1.5}]).hex()}
