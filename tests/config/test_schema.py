"""The schema itself: every key is documented, and every default is one that a user could write."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from xproxy.config import schema
from xproxy.config.dump import plain
from xproxy.config.fields import class_doc, config_fields, default_of, field_docs, is_required
from xproxy.config.structure import build_converter

CLASSES: list[type] = [
    value
    for value in vars(schema).values()
    if isinstance(value, type) and attrs.has(value) and value.__module__ == schema.__name__
]


@pytest.mark.parametrize("cls", CLASSES)
def test_everything_is_documented(cls: type) -> None:
    assert class_doc(cls)
    undocumented = [f.name for f in config_fields(cls) if f.name not in field_docs(cls)]
    assert undocumented in ([], ["name"]), f"{cls.__name__}: no docstring under {undocumented}"


@pytest.mark.parametrize("cls", [c for c in CLASSES if c is not schema.FilterConfig])
def test_defaults_can_be_written(cls: type) -> None:
    converter = build_converter()
    for field in config_fields(cls):
        if not is_required(field) and not attrs.has(type(default_of(field))):
            written = plain(default_of(field), field.type)
            type_: Any = field.type  # Any: a type form
            assert converter.structure(written, type_) == default_of(field), field.name


@pytest.mark.parametrize("cls", CLASSES)
def test_configurations_are_values(cls: type) -> None:
    # Two equal clusters are one cluster across a reload, and keys are given by name.
    decorators = [f.eq for f in config_fields(cls)]
    assert all(decorators)
    assert "__eq__" in vars(cls)
    assert all(f.kw_only for f in attrs.fields(cls))
