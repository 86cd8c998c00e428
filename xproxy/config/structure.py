"""Plain values → attrs classes, by cattrs, with every mistake of a document found in one go.

Each field's validators run by themselves, so that each of them is reported, at its own place.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs
from cattrs import Converter
from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from xproxy.config.containers import mapping_hook, sequence_hook, union_hook
from xproxy.config.fields import alternatives, config_fields, is_required, key_of
from xproxy.config.findings import Path, Problem, is_like, show
from xproxy.config.kinds import (
    SHORTHANDS,
    is_class,
    is_enum,
    is_literal,
    is_mapping,
    is_sequence,
    unexpected,
)
from xproxy.config.scalars import (
    BUILTIN_HOOKS,
    SCALAR_HOOKS,
    Hook,
    structure_enum,
    structure_literal,
)

FieldCheck: TypeAlias = Callable[[Any], None]  # Any: takes what the field holds; raises Problem(s)
ClassCheck: TypeAlias = Callable[[Mapping[str, object]], Iterator[Problem]]
"""Looks at a mapping as it was written, also where parts of it are wrong."""


def build_converter(
    field_checks: Mapping[tuple[type, str], FieldCheck],
    class_checks: Mapping[type, ClassCheck],
) -> Converter:
    """Return a converter for the schema's classes and any attrs class. ``walk`` reads the errors it raises."""
    converter = Converter(detailed_validation=True, forbid_extra_keys=True)
    for builtin, hook in BUILTIN_HOOKS.items():
        converter.register_structure_hook(builtin, hook)
    for type_, hook in SCALAR_HOOKS.items():
        converter.register_structure_hook_func(functools.partial(operator.is_, type_), hook)
    converter.register_structure_hook_func(is_enum, structure_enum)
    converter.register_structure_hook_func(is_literal, structure_literal)
    converter.register_structure_hook_factory(is_sequence, sequence_hook)
    converter.register_structure_hook_factory(is_mapping, mapping_hook)
    converter.register_structure_hook_factory(lambda t: alternatives(t) is not None, union_hook)
    converter.register_structure_hook_factory(
        is_class,
        lambda t, c: _class_hook(t, c, field_checks, class_checks),
    )
    return converter


def walk(error: Exception, path: Path = ()) -> Iterator[tuple[Path, Problem]]:
    """Give every problem in what the converter raised, with its path."""
    match error:
        case ForbiddenExtraKeysError():
            allowed = [key_of(field) for field in config_fields(error.cl)]
            for key in sorted(error.extra_fields):
                message = "unknown key" if allowed else "unknown key; none is allowed here"
                yield (
                    (*path, key),
                    Problem(message, on_key=True, name=key, allowed=allowed),
                )
        case ExceptionGroup():
            for inner in error.exceptions:
                yield from walk(inner, path + _step(inner))
        case Problem():
            yield path + error.at, error
        case _:
            known = isinstance(error, ValueError | TypeError | re.error)
            text = _text_of(error)
            yield path, Problem(text if known else f"{type(error).__name__}: {text}")


def _step(error: Exception) -> Path:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()


def _text_of(error: Exception) -> str:
    # attrs' validators hand over (message, attribute, …); KeyError would show the repr of its key.
    return str(error.args[0]) if error.args else type(error).__name__


_ATTRS_BOUND: Final = re.compile(r"'\w+' (must be [<>=]+ [^:]+): .*")
_ATTRS_CHOICE: Final = re.compile(r"'\w+' must be in [(\[{](.*)[)\]}] \(got .*\)", re.DOTALL)
_ATTRS_LENGTH: Final = re.compile(r"Length of '\w+' must be ([<>=]+ [0-9]+): [0-9]+")


def _refusal(message: str, value: object) -> str:
    """Word a validator's refusal: attrs' own ones name the field, which the path does already."""
    bound = _ATTRS_BOUND.fullmatch(message)
    if bound is not None:
        return f"{bound[1]}, found {show(value)}"
    choice = _ATTRS_CHOICE.fullmatch(message)
    if choice is not None:
        return f"must be one of {choice[1]}, found {show(value)}"
    length = _ATTRS_LENGTH.fullmatch(message)
    if length is not None:
        return f"its length must be {length[1]}, found {show(value)}"
    return message


def _class_hook(
    cls: type,
    converter: Converter,
    field_checks: Mapping[tuple[type, str], FieldCheck],
    class_checks: Mapping[type, ClassCheck],
) -> Hook:
    fields = config_fields(cls)
    written = {field.name for field in fields}
    overrides = {
        field.name: override(
            struct_hook=_field_hook(field, converter, field_checks.get((cls, field.name))),
        )
        if field.name in written
        else override(omit=True)
        for field in attrs.fields(cls)
        if field.init
    }
    inner: Hook = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        _cattrs_use_alias=True,
        **overrides,  # type: ignore[arg-type]  # the keywords above are not overrides
    )
    renamed = {f.name: key_of(f) for f in fields if f.name != key_of(f)}
    known = {key_of(field) for field in fields}
    required = [key_of(field) for field in fields if is_required(field)]
    check = class_checks.get(cls)
    short = SHORTHANDS.get(cls)

    def structure(value: object, _: object) -> object:
        if short is not None:
            value = short[1](value)
        if not isinstance(value, dict):
            raise unexpected(cls, value)
        if "on" in known and "on" not in value:
            value = _on(value)
        missing = [key for key in required if key not in value]
        problems: list[Exception] = [
            Problem(f"key `{key}` is missing")
            for key in missing
            if not any(name not in known and is_like(name, key) for name in value)
        ]
        if check is not None:
            problems += check(value)
        try:
            result = inner(value, cls)
        except ExceptionGroup as group:
            _spell(group.exceptions, renamed)
            problems += [exc for exc in group.exceptions if not _is_missing(exc, missing)]
        if problems:
            raise ExceptionGroup(cls.__name__, problems)
        return result

    return structure


def _on(value: dict[str, object]) -> dict[str, object]:
    # Tools of YAML 1.1 take the key `on` for the truth, and write `true` for it.
    return {"on" if key in ("true", "True") else key: one for key, one in value.items()}


def _spell(errors: Sequence[Exception], renamed: Mapping[str, str]) -> None:
    # cattrs notes the name of the attribute; the user wrote its alias.
    for error in errors if renamed else ():
        for note in getattr(error, "__notes__", ()):
            if isinstance(note, AttributeValidationNote):
                note.name = renamed.get(note.name, note.name)


def _is_missing(exc: Exception, missing: Sequence[str]) -> bool:
    # cattrs reports a missing key as the KeyError of looking it up; that one has been reported already.
    return isinstance(exc, KeyError) and _step(exc)[:1] in [(key,) for key in missing]


def _field_hook(
    field: attrs.Attribute[Any],  # Any: a field of any type
    converter: Converter,
    check: FieldCheck | None,
) -> Hook:
    def structure(value: object, type_: Any) -> object:  # Any: a type form
        result = converter.structure(value, type_)
        if field.validator is not None:
            try:
                field.validator(None, field, result)
            except (ValueError, TypeError, re.error) as exc:
                raise Problem(_refusal(_text_of(exc), value)) from exc
            except AttributeError:
                # A validator that looks at the other fields too: it runs, and reports, when the object is made.
                pass
        if check is not None:
            check(result)
        return result

    return structure
