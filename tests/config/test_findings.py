"""Findings as people read them."""

from __future__ import annotations

import pytest

from xproxy.config.findings import (
    MAX_COMPARED,
    MAX_FINDINGS,
    Finding,
    InvalidConfig,
    Path,
    Problem,
    allowed_names,
    is_like,
    nearest,
    show,
    show_path,
    suggestions,
    unknown,
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
    assert allowed_names(Problem("unknown key")) == ""
    assert allowed_names(Problem("unknown key", allowed=["a", "b"])) == "a, b"
    many = [f"n{i}" for i in range(20)]
    assert allowed_names(Problem("x", allowed=many)).endswith("n14, n15, … (4 more)")


def test_what_was_meant_comes_before_all_that_is_allowed() -> None:
    finding = Finding("f", 1, 2, "a", "unknown key", "right", "left, right")
    assert str(finding) == "f:1:2: a: unknown key (did you mean `right`?); allowed: left, right"


def test_the_place_is_shown() -> None:
    finding = Finding("f", 1, 4, "a", "wrong", source_line="\ta: b")
    assert finding.shown() == "f:1:4: a: wrong\n    \ta: b\n    \t  ^"
    assert Finding("f", 0, 0, "", "wrong").shown() == "f: wrong"
    long = Finding("f", 1, 501, "", "wrong", source_line="x" * 500 + "y" + "z" * 500).shown()
    _, excerpt, caret = long.splitlines()
    assert excerpt[caret.index("^")] == "y"
    assert len(excerpt) < 130
    assert InvalidConfig([finding], 2).shown().splitlines()[-1] == "… and 2 more"


def test_so_many_names_are_compared_in_all() -> None:
    allowed = ["name"] * (MAX_COMPARED // 2)
    problems = [
        Problem("", name="nane", allowed=allowed),
        Problem("", suggestion="as found"),
        Problem("no matter of names"),
        Problem("", name="nane", allowed=allowed),
        Problem("", name="nane", allowed=allowed),
        Problem("", suggestion="as found"),
    ]
    assert list(suggestions(problems)) == ["name", "as found", "", "name", "", "as found"]


def test_a_name_that_nothing_has() -> None:
    assert str(unknown("cluster", "x", [])) == 'unknown cluster "x"; there is none'
    problem = unknown("cluster", "x", ["y"], at=("z",), key=True)
    assert (problem.at, problem.on_key, problem.allowed) == (("z",), True, ["y"])


def test_without_a_text_there_are_paths() -> None:
    problems = [Problem("wrong", at=("a", 0)), *[Problem("wrong")] * MAX_FINDINGS]
    assert str(InvalidConfig.of(problems[:1])) == "a[0]: wrong"
    many = InvalidConfig.of(problems)
    assert (len(many.findings), many.omitted) == (MAX_FINDINGS, 1)
    assert many.findings[0].shown() == "a[0]: wrong"


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
