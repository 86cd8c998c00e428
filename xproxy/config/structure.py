"""Plain values → attrs classes, by cattrs, with every mistake in them found in one go.

Here are types, unknown and missing keys, and each class's own bounds; what takes more than one value, or what is
installed, is looked at in ``checks.py``. A class of which a part cannot be read is made without its ``__init__``, for
those checks; see ``partial.py``.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cattrs import Converter

from xproxy.config.containers import mapping_hook, sequence_hook, union_hook
from xproxy.config.fields import alternatives, config_fields, default_of, is_required, key_of
from xproxy.config.findings import Problem, is_like, show
from xproxy.config.kinds import (
    EXCLUSIVE,
    SHORTHANDS,
    is_class,
    is_enum,
    is_literal,
    is_mapping,
    is_sequence,
    unexpected,
)
from xproxy.config.partial import UNREAD, PartlyRead, problems_of, rest_of, text_of
from xproxy.config.scalars import (
    BUILTIN_HOOKS,
    SCALAR_HOOKS,
    Hook,
    structure_enum,
    structure_literal,
)


def build_converter() -> Converter:
    """Return a converter for the schema's classes and any attrs class.

    ``problems_of`` reads the errors it raises, and ``rest_of`` what could be read nevertheless.
    """
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
    converter.register_structure_hook_factory(is_class, _class_hook)
    return converter


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


def _class_hook(cls: type, converter: Converter) -> Hook:
    reader = _ClassReader(cls, converter)
    return lambda value, _: reader.read(value)


class _ClassReader:
    """Reads mappings into instances of one class."""

    def __init__(self, cls: type, converter: Converter) -> None:
        self._cls = cls
        self._converter = converter
        self._fields = {key_of(field): field for field in config_fields(cls)}
        self._required = {key for key, field in self._fields.items() if is_required(field)}
        self._exclusive = EXCLUSIVE.get(cls, ())
        self._short = SHORTHANDS.get(cls)
        # Found when first needed: a class may have fields of its own kind.
        self._hooks: dict[str, Hook] = {}

    def read(self, value: object) -> object:
        """Return the instance. Raises PartlyRead, or Problem where there is no mapping."""
        if self._short is not None:
            value = self._short[1](value)
        if not isinstance(value, dict):
            raise unexpected(self._cls, value)
        fields = self._fields
        if "on" in fields and "on" not in value:
            value = _on(value)
        problems: list[Problem] = []
        read: dict[str, Any] = {}  # Any: what fields hold
        wrong: set[str] = set()
        for key, written in value.items():
            field = fields.get(key)
            if field is None:
                continue
            try:
                read[key] = (self._hooks.get(key) or self._hook(key))(written, field.type)
            except Exception as exc:  # the hooks of types, and plugins' classes, may raise anything
                problems += problems_of(exc, (key,))
                read[key] = rest_of(exc)
                wrong.add(key)
        if len(read) < len(value) or not self._required <= read.keys():
            problems += self._other_keys(value, read)
        if not problems:
            try:
                return self._cls(**read)
            except Exception as exc:  # somebody else's class may raise anything
                problems += self._refused(value, read, wrong) or problems_of(exc)
        else:
            problems += self._refused(value, read, wrong)
        raise PartlyRead(problems, self._partial(read))

    def _hook(self, key: str) -> Hook:
        hook: Hook = self._converter.get_structure_hook(self._fields[key].type)
        self._hooks[key] = hook
        return hook

    def _other_keys(self, value: Mapping[str, object], read: dict[str, Any]) -> Iterator[Problem]:
        """Give the keys that are unknown or missing; what an unknown one may be meant for counts as unread."""
        unknown = sorted(key for key in value if key not in self._fields)
        missing = [key for key in self._fields if key not in value]
        misspelt = {key for key in missing if any(is_like(name, key) for name in unknown)}
        for key in missing:
            if key in self._required and key not in misspelt:
                yield Problem(f"key `{key}` is missing")
            if key in self._required or (key in misspelt and key not in self._exclusive):
                read[key] = UNREAD
        if unknown and all(value.get(key) is None for key in self._exclusive):
            # One of them is to be given: whatever stands there is likely that one.
            read.update(dict.fromkeys(self._exclusive[:1], UNREAD))
        allowed = list(self._fields)
        message = "unknown key" if allowed else "unknown key; none is allowed here"
        for key in unknown:
            yield Problem(message, at=(key,), on_key=True, name=key, allowed=allowed)

    def _refused(
        self, value: Mapping[str, object], read: Mapping[str, object], wrong: set[str]
    ) -> list[Problem]:
        """Return what the validators say of each field that could be read: all of them, not the first alone."""
        found: list[Problem] = []
        for key, written in value.items():
            field = self._fields.get(key)
            if field is None or field.validator is None or key in wrong or read[key] is UNREAD:
                continue
            try:
                field.validator(None, field, read[key])
            except (ValueError, TypeError, re.error) as exc:
                found.append(Problem(_refusal(text_of(exc), written), at=(key,)))
            except AttributeError:
                # A validator that looks at the other fields too: it reports when the object is made.
                pass
            except Exception as exc:  # likewise
                found += problems_of(exc, (key,))
        return found

    def _partial(self, read: Mapping[str, object]) -> object:
        """Return an instance with what could be read, and defaults where nothing was written."""
        try:
            made: object = object.__new__(self._cls)
            for key, field in self._fields.items():
                value = read[key] if key in read else default_of(field)
                object.__setattr__(made, field.name, value)
        except Exception:  # likewise; it is a plugin's class, whose parts nothing looks at
            return UNREAD
        return made


def _on(value: dict[str, object]) -> dict[str, object]:
    # Tools of YAML 1.1 take the key `on` for the truth, and write `true` for it.
    return {"on" if key in ("true", "True") else key: one for key, one in value.items()}
