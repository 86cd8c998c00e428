"""Fields: which are keys, and their docstrings."""

from __future__ import annotations

import attrs
from attrs import field

from xproxy.config.fields import (
    alternatives,
    class_doc,
    config_fields,
    default_of,
    field_docs,
    is_required,
    key_of,
)


@attrs.frozen(kw_only=True)
class Base:
    """The first line,
    and its end.

    Not this.
    """

    one: int
    """Number
    one."""


@attrs.frozen(kw_only=True)
class Derived(Base):
    two: list[str] = field(factory=list, alias="second")
    _private: int = 0
    made: int = field(init=False, default=1)
    """Made."""


def test_keys() -> None:
    assert [key_of(f) for f in config_fields(Derived)] == ["one", "second"]
    assert [is_required(f) for f in config_fields(Derived)] == [True, False]
    assert default_of(config_fields(Derived)[1]) == []
    assert [f.type for f in config_fields(Derived)] == [int, list[str]]


def test_docs() -> None:
    assert field_docs(Derived) == {"one": "Number one.", "made": "Made."}
    assert class_doc(Base) == "The first line, and its end."


def test_docs_without_source_are_empty() -> None:
    assert field_docs(attrs.make_class("Made", ["x"])) == {}


def test_alternatives() -> None:
    assert alternatives(int | None) == (int, type(None))
    assert alternatives(int) is None
