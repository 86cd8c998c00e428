"""A user's interface as plain data; what cannot be read is said with the file's name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from xproxy.codecs.thrift.interface import Interface, load

CALC = """
enum Color { RED = 1, BLUE = 2 }
struct Tree { 1: i32 weight, 2: list<Tree> kids, 3: map<string, binary> leaves, 5: set<Color> colors }
exception Bad { 1: string why }
service Base { void ping(1: string who) }
service Calc extends Base { Tree grow(1: Tree tree, 2: Color color) throws (1: Bad bad) }
"""


@pytest.fixture
def calc(tmp_path: Path) -> Interface:
    path = tmp_path / "calc.thrift"
    path.write_text(CALC)
    return load([path])


def test_names_and_types_of_arguments_and_results(calc: Interface) -> None:
    grow = calc.signature("Calc", "grow")
    assert grow is not None
    assert {n: (name, s.kind) for n, (name, s) in grow.arguments.fields.items()} == {
        1: ("tree", 12),
        2: ("color", 8),
    }
    assert {n: name for n, (name, _) in grow.result.fields.items()} == {0: "success", 1: "bad"}
    assert grow.arguments.fields[2][1].members == {1: "RED", 2: "BLUE"}
    tree = grow.arguments.fields[1][1]
    kids, leaves = tree.fields[2][1], tree.fields[3][1]
    assert kids.element is tree
    assert leaves.key is not None
    assert leaves.element is not None
    assert (leaves.key.binary, leaves.element.binary) == (False, True)
    assert tree.fields[5][1].element is not None


def test_a_method_without_its_service_is_found_if_it_can_be_only_one(calc: Interface) -> None:
    assert calc.signature("", "grow") is calc.signature("Calc", "grow")
    assert calc.signature("", "ping") is calc.signature("Base", "ping")  # inherited: the same
    assert calc.signature("", "gone") is None
    assert calc.signature("Other", "grow") is None
    assert calc.signature("Calc", "gone") is None


def test_two_methods_of_one_name_belong_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "two.thrift"
    path.write_text("service A { void m(1: i32 a) }\nservice B { void m(1: string b) }\n")
    both = load([path])
    assert both.signature("", "m") is None
    assert both.signature("B", "m") is not None


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.thrift"
    path.write_text("service A { void m() }\n")
    assert load([path]).signature("A", "m") is not None
    path.write_text("service A { void other() }\n")
    assert load([path]).signature("A", "other") is not None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("service A { Gone m() }", r"broken\.thrift' cannot be read: .*Gone"),
        ("no interface", r"broken\.thrift' cannot be read"),
        (None, r"broken\.thrift' cannot be read: No such file"),
        ("service A {}\nservice A {}", r"A"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str | None, what: str) -> None:
    path = tmp_path / "broken.thrift"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=what):
        load([path, path] if text and text.count("service") > 1 else [path])


def test_without_thriftpy2_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "thriftpy2.parser", None)
    with pytest.raises(ValueError, match="extra 'thrift'"):
        load([Path("any.thrift")])
