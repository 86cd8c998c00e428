"""Dumping: Config → plain values as they would stand in a file, without secrets. For the admin interface and docs."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Any, Final, TypeAlias

import attrs

from xproxy.config.fields import alternatives, config_fields, key_of
from xproxy.config.kinds import enum_labels
from xproxy.config.schema import Config, Duration, FilterConfig, Size, StringMatch
from xproxy.config.units import format_duration, format_size
from xproxy.model.address import Address

Plain: TypeAlias = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None
"""What JSON can say."""

REDACTED: Final = "[redacted]"
_SECRET: Final = re.compile(
    r"(?i)(?:^|[-_.])(?:password|passwd|secret|token|authorization|credentials?|key)$"
)


def is_secret_name(name: str) -> bool:
    """Say whether what has this name is probably nobody else's business."""
    return _SECRET.search(name) is not None


def config_dump(config: Config) -> dict[str, Plain]:
    """Return the whole configuration, defaults included, as JSON can say it.

    Fields whose attrs metadata has ``secret: True``, and texts whose key is named like a password, token or key, are
    redacted.
    """
    return _fields(config)


def plain(value: object, type_: object = None) -> Plain:
    """Return ``value`` as it would be written in a file, given its field's type where that matters."""
    match value:
        case FilterConfig():
            options = value.options
            rest = _fields(options) if attrs.has(type(options)) else {}
            return {"name": value.name, **rest}
        case Address() | PurePath():
            return str(value)
        case enum.Enum():
            return enum_labels(type(value))[list(type(value)).index(value)]
        case bytes():
            return value.decode("utf-8", "replace")
        case bool() | None | str():
            return value
        case int() | float():
            return _number(value, type_)
        case Mapping():
            return {
                str(key): REDACTED if _hides(str(key), item) else plain(item)
                for key, item in value.items()
            }
        case list() | tuple():
            return [plain(item) for item in value]
        case AbstractSet():
            return sorted((plain(item) for item in value), key=str)
        case re.Pattern():
            return str(value.pattern)
        case _ if attrs.has(type(value)):
            return _fields(value)
        case _:
            return type(value).__name__


def _fields(instance: Any) -> dict[str, Plain]:  # Any: an instance of whatever attrs class
    found: dict[str, Plain] = {}
    for field in config_fields(type(instance)):
        key = key_of(field)
        value = getattr(instance, field.name)
        hidden = field.metadata.get("secret", False) and value is not None
        found[key] = REDACTED if hidden or _hides(key, value) else plain(value, field.type)
    return found


def _hides(name: str, value: object) -> bool:
    # A text, or the test of one: a cluster that is called "token" is no secret.
    return is_secret_name(name) and isinstance(value, str | bytes | StringMatch)


def _number(value: int | float, type_: object) -> Plain:
    kinds = alternatives(type_) or (type_,)
    if Duration in kinds:
        return format_duration(value)
    if Size in kinds:
        return format_size(int(value))
    return value
