"""Findings as people read them."""

from __future__ import annotations

import pytest

from xproxy.config.findings import (
    Finding,
    InvalidConfig,
    Path,
    Problem,
    is_like,
    nearest,
    problem_message,
    show,
    show_path,
)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("listeners", 0, "address"), "listeners[0].address"),
        (("clusters", "reviews-v2", "codec"), "clusters.reviews-v2.codec"),
        (("clusters", "a.b", "codec"), 'clusters["a.b"].codec'),
        (("ö",), '["ö"]'),
        ((0, 1), "[0][1]"),
    ],
)
def test_paths(path: Path, text: str) -> None:
    assert show_path(path) == text


def test_finding() -> None:
    assert (
        str(Finding("f", 1, 2, "a.b", "wrong", "right"))
        == "f:1:2: a.b: wrong (did you mean `right`?)"
    )
    assert str(Finding("f", 0, 0, "", "wrong")) == "f: wrong"


def test_all_findings_are_in_the_text() -> None:
    one, two = Finding("f", 1, 1, "", "x"), Finding("f", 2, 1, "", "y")
    assert str(InvalidConfig([one, two], 3)) == "f:1:1: x\nf:2:1: y\n… and 3 more"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("adress", "address"),
        ("ADDRESS", "address"),
        ("max-head-bytes", "max_head_bytes"),
        ("retry-on", "retry-on"),
        ("zzz", ""),
        ("", ""),
        ("address" * 100, ""),
    ],
)
def test_nearest(name: str, near: str) -> None:
    assert nearest(name, ["name", "address", "max_head_bytes", "retry-on"]) == near


def test_is_like() -> None:
    assert is_like("clutser", "cluster")
    assert not is_like("cluster_name_of_mine", "cluster")
    assert not is_like("match", "cluster")


def test_what_is_allowed_is_told_up_to_a_bound() -> None:
    assert problem_message(Problem("unknown key")) == "unknown key"
    assert (
        problem_message(Problem("unknown key", allowed=["a", "b"])) == "unknown key; allowed: a, b"
    )
    many = [f"n{i}" for i in range(20)]
    assert problem_message(Problem("x", allowed=many)).endswith("n14, n15, … (4 more)")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        (True, "true"),
        (7, "the number 7"),
        ("x" * 50, '"' + "x" * 37 + '..."'),
        ([1], "a list of 1"),
        ({}, "a mapping of 0"),
        (b"", "bytes"),
    ],
)
def test_show(value: object, text: str) -> None:
    assert show(value) == text
