"""Plain values → attrs classes of every kind of field, and what is said of those that do not fit."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from attrs import field
from attrs.validators import ge, le

from xproxy.config.findings import Problem, allowed_names, show_path
from xproxy.config.partial import problems_of
from xproxy.config.structure import build_converter
from xproxy.model.address import Address
from xproxy.model.limits import Duration, Size


class Colour(enum.IntEnum):
    RED = 1
    DARK_BLUE = 2


@attrs.frozen(kw_only=True)
class Everything:
    number: int = field(default=1, validator=[ge(0), le(9)])
    real: float = 0.5
    flag: bool = False
    text: str = ""
    raw: bytes = b""
    path: Path | None = None
    size: Size = field(default=Size(0))
    wait: Duration | None = None
    where: Address | None = None
    colour: Colour = Colour.RED
    names: Sequence[str] = ()
    numbers: set[int] = field(factory=set)
    words: tuple[Literal["a", "b"], ...] = ()
    table: Mapping[str, float] = field(factory=dict)
    mixed: str | dict[str, int] | None = None
    anything: Any = None
    low: int = 0
    high: int = field(default=1)
    _seam: object = None

    @high.validator
    def _above_low(self, _: object, value: int) -> None:
        if value <= self.low:
            raise ValueError("high must be above low")


def _read(value: object) -> Everything:
    return build_converter().structure(value, Everything)


def _problems(value: object) -> list[str]:
    with pytest.raises((Problem, ExceptionGroup)) as caught:
        _read(value)
    return [
        f"{show_path(p.at)}: {p.message}" + (f"; allowed: {allowed_names(p)}" if p.allowed else "")
        for p in problems_of(caught.value)
    ]


def test_every_kind() -> None:
    assert _read(
        {
            "number": 3,
            "real": 2,
            "flag": True,
            "text": "on",
            "raw": "ü",
            "path": "/x",
            "size": "1KiB",
            "wait": 0,
            "where": "[::1]:1",
            "colour": "dark-blue",
            "names": "one",
            "numbers": [1, 1],
            "words": ["b"],
            "table": {"x": 1},
            "mixed": {"y": 2},
            "anything": [None],
        }
    ) == Everything(
        number=3,
        real=2.0,
        flag=True,
        text="on",
        raw="ü".encode(),
        path=Path("/x"),
        size=Size(1024),
        wait=Duration(0),
        where=Address("::1", 1),
        colour=Colour.DARK_BLUE,
        names=("one",),
        numbers={1},
        words=("b",),
        table={"x": 1.0},
        mixed={"y": 2},
        anything=[None],
    )
    assert _read({}) == Everything()


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("number", "1", 'number: expected a whole number, found "1"'),
        ("number", True, "number: expected a whole number, found true"),
        ("number", 1.0, "number: expected a whole number, found the number 1.0"),
        ("number", 10, "number: must be <= 9, found the number 10"),
        ("real", "x", 'real: expected a number, found "x"'),
        ("flag", 1, "flag: expected true or false, found the number 1"),
        ("text", None, "text: expected text, found nothing"),
        ("raw", 1, "raw: expected text, found the number 1"),
        ("size", 1.5, "size: expected a size such as 512B, 64KiB, 1MiB or 0, found the number 1.5"),
        ("wait", {}, "wait: expected a duration (250ms, 3s, 5m, 1h or 0), found a mapping of 0"),
        ("where", "[x]:1", 'where: "[x]:1" is not an IPv6 address and port: At least 3 parts expected in \'x\''),
        ("where", "h:1x", "where: 'h:1x' is not host:port, [ipv6]:port or unix:/path"),
        ("where", 1, "where: expected an address (host:port, [ipv6]:port or unix:/path), found the number 1"),
        ("colour", "blue", 'colour: found "blue"; allowed: red, dark-blue'),
        ("colour", 2, "colour: found the number 2; allowed: red, dark-blue"),
        ("names", {}, "names: expected a list, found a mapping of 0"),
        ("names", ["x", 1], "names[1]: expected text, found the number 1"),
        ("numbers", 1, "numbers: expected a list, found the number 1"),
        ("words", "c", 'words: found "c"; allowed: a, b'),
        ("table", {"x": "y"}, 'table.x: expected a number, found "y"'),
        ("table", [], "table: expected a mapping, found a list of 0"),
        ("mixed", 1, "mixed: expected text or a mapping or nothing, found the number 1"),
        ("mixed", {"x": "y"}, 'mixed.x: expected a whole number, found "y"'),
        ("high", 0, ": high must be above low"),
        ("seam", 0, "seam: unknown key; allowed: number, real, flag, text, raw, path, size, wait, where, colour, "
         "names, numbers, words, table, mixed, anything, … (2 more)"),
    ],
)  # fmt: skip
def test_what_does_not_fit(key: str, value: object, problem: str) -> None:
    found = _problems({key: value})
    if key == "words":  # one text stood for a list of one
        found = [line.replace("words[0]", "words") for line in found]
    assert found == [problem]


def test_all_at_once() -> None:
    assert len(_problems({"number": "x", "real": "y", "zz": 1, "words": ["c", "d"]})) == 5


def test_no_mapping() -> None:
    assert _problems([1]) == [": expected a mapping, found a list of 1"]
