"""Documents: values by YAML 1.2, positions, and bounds."""

from __future__ import annotations

import itertools

import pytest

from tests.effort import rounds
from xproxy.config.document import MAX_DEPTH, MAX_TEXT_BYTES, MAX_VALUES, read_document
from xproxy.config.findings import InvalidConfig


def _refusal(text: str) -> str:
    with pytest.raises(InvalidConfig) as caught:
        read_document(text, "f")
    return str(caught.value)


def test_only_yaml_1_2_counts() -> None:
    text = "on: [on, off, yes, no, y, 12:30, 010, 0x1F, 0o7, 1_000, 2024-01-01, .inf, 1e3, '1', !!str 1]"
    assert read_document(text, "f").value == {
        "on": [
            "on", "off", "yes", "no", "y", "12:30", 10, "0x1F", "0o7", "1_000", "2024-01-01", ".inf",
            "1e3", "1", "1",
        ]
    }  # fmt: skip


def test_scalars() -> None:
    text = "[~, null, Null, '', true, False, -1, +2, 1.5, .5, 99999999999999999999, '~', ]"
    assert read_document(text, "f").value == [
        None, None, None, "", True, False, -1, 2, 1.5, 0.5, "99999999999999999999", "~",
    ]  # fmt: skip


def test_keys_are_text() -> None:
    assert read_document("{1: a, true: b, ~: c, '': d}", "f").value == {
        "1": "a", "true": "b", "~": "c", "": "d",
    }  # fmt: skip


def test_positions() -> None:
    document = read_document("a:\n  - ü: 1\n    b: {c: d}\n", "f")
    at = document.position
    assert (at(("a", 0, "b", "c")).line, at(("a", 0, "b", "c")).column) == (3, 12)
    assert (at(("a", 0, "b", "c"), of_key=True).column) == 9
    assert at(("a", 0, "ü")).column == 8
    assert (at(("a", 7, "x")).line, at(()).line) == (2, 1)
    assert document.existing(("a", 0, "b", "x", "y")) == ("a", 0, "b")
    assert str(document.finding(("a", 0, "x"), "wrong", "right")) == (
        "f:2:5: a[0]: wrong (did you mean `right`?)"
    )


def test_aliases_share_what_they_name() -> None:
    document = read_document("a: &x {b: [1]}\nc: *x\nd: [*x, *x]", "f")
    assert document.value == {"a": {"b": [1]}, "c": {"b": [1]}, "d": [{"b": [1]}, {"b": [1]}]}
    assert document.position(("d", 1, "b", 0)).line == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f:1:1: the document is empty"),
        ("# nothing", "f:1:1: the document is empty"),
        ("a: 1\n---\nb: 1", "f:2:1: a second document; one is allowed"),
        ("a: 1\nb: 2\na: 3\na: 4", "f:3:1: a: key given twice; the first one is in line 1\n"
         "f:4:1: a: key given twice; the first one is in line 1"),
        ("x: [{a: 1, 'a': 2}]", "f:1:12: x[0].a: key given twice; the first one is in line 1"),
        ("a: !!python/os x", "f:1:4: a: tag tag:yaml.org,2002:python/os is not supported"),
        ("a: !mine [1]", "f:1:4: a: tag !mine is not supported"),
        ("? [a]\n: 1", "f:1:3: a key must be text, found a list or mapping"),
        ("a: &x b\n*x : 1", "f:2:1: a key must be text, found an alias"),
        ("a: *nobody", "f:1:4: alias *nobody names no anchor that is complete before it"),
        ("a: &x [*x]", "f:1:8: alias *x names no anchor that is complete before it"),
        ("a: b\n\0", "f:2:1: character U+0000 may not stand in YAML"),
        ("a: \ud800", "f:1:4: character U+D800 may not stand in YAML"),
        ("[" * 40, f"f:1:{MAX_DEPTH + 1}: nested more than {MAX_DEPTH} deep"),
        ("x" * (MAX_TEXT_BYTES + 1), f"f:1:1: longer than {MAX_TEXT_BYTES} bytes"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, message: str) -> None:
    assert _refusal(text) == message


@pytest.mark.parametrize(
    "text", ["a: [1", "a: 'x", "a: b: c", "\ta: 1", "a: @x", "{a: 1}}", "%YAML 3\n---\na"]
)
def test_what_is_not_yaml(text: str) -> None:
    # The wording is that of the parser PyYAML was built with.
    assert "f:" in _refusal(text)
    assert "not YAML" in _refusal(text)


def test_a_billion_laughs_are_not_laughed() -> None:
    names = "abcdefghij"
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    for before, name in itertools.pairwise(names):
        lines.append(f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]")
    text, bound = "\n".join(lines), 2e8
    assert f"more than {MAX_VALUES} values" in _refusal(text)
    assert rounds(lambda: _refusal(text), bound) < bound


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("a: [1, 2\nb: 3\nc: 4\n", (1, 4), "`[`"),
        ("x: 1\na: {b: 1\nc: [2]\n", (2, 4), "`{`"),
        ("a: [1, {b: 2]\nc: 3\n", (1, 8), "`{`"),
        ("a: 'text\nb: 3\n", (1, 4), "`'`"),
        ('a: "text\nb: 3\n', (1, 4), '`"`'),
    ],
)
def test_what_is_not_closed_is_shown_where_it_begins(
    text: str, place: tuple[int, int], what: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        read_document(text, "f")
    (finding,) = caught.value.findings
    assert (finding.line, finding.column) == place
    assert f"{what} is not closed" in finding.message
    assert finding.shown().splitlines()[1].strip() == text.splitlines()[place[0] - 1]
