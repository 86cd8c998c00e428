"""Which fields of a class a user may write, and what their docstrings say of them."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
import typing
from typing import Any, Final

import attrs

DESCRIBED_BY: Final = "__described_by__"
"""Attribute of a class that was made at run time: the class whose source has its docstrings."""


@attrs.frozen
class Unless:
    """A validator of all values but one word, which stands for a value that is found out later."""

    word: str
    validator: Any  # Any: attrs' validators have private types

    def __call__(
        self, instance: object, attribute: attrs.Attribute[Any], value: object
    ) -> None:  # Any: a field of any type
        """See attrs' validators. Raises ValueError."""
        if value != self.word:
            self.validator(instance, attribute, value)


def config_fields(cls: type) -> tuple[attrs.Attribute[Any], ...]:  # Any: fields have any type
    """Return the attrs fields of ``cls`` that are keys: all but private ones and those not in ``__init__``.

    Types are resolved. Raises NameError where an annotation names something that exists only for type checkers.
    """
    return tuple(
        field
        for field in attrs.fields(attrs.resolve_types(cls))
        if field.init and not field.name.startswith("_")
    )


def key_of(field: attrs.Attribute[Any]) -> str:  # Any: as above
    """Return the key that a user writes for ``field``."""
    return field.alias or field.name


def is_required(field: attrs.Attribute[Any]) -> bool:  # Any: as above
    """Say whether the key must be given."""
    return field.default is attrs.NOTHING


def default_of(field: attrs.Attribute[Any]) -> object:  # Any: as above
    """Return the value of an optional field that is not given."""
    default: Any = field.default  # Any: as above
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # attrs' stubs call the class a function
        return None if default.takes_self else default.factory()
    return default


def alternatives(type_: object) -> tuple[object, ...] | None:
    """Return the members of a union, or None if ``type_`` is none."""
    if typing.get_origin(type_) in (typing.Union, types.UnionType):
        return typing.get_args(type_)
    return None


@functools.lru_cache(maxsize=256)
def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring under each field of ``cls``, inherited ones too, as one line each.

    Empty where the source is not there to be read.
    """
    docs: dict[str, str] = {}
    described: type = getattr(cls, DESCRIBED_BY, cls)
    for base in reversed(described.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue
        (definition,) = tree.body
        if not isinstance(definition, ast.ClassDef):
            continue
        for before, after in zip(definition.body, definition.body[1:], strict=False):
            match before, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str() as text)),
                ):
                    docs[name] = " ".join(text.split())
    return docs


def class_doc(cls: type) -> str:
    """Return the first paragraph of the docstring as one line; empty where attrs or nobody wrote it."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return " ".join(text.partition("\n\n")[0].split())
