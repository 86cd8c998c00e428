"""Dumping: Config → plain values as they would stand in a file, without secrets. For the admin interface and docs."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Any, Final, TypeAlias

import attrs

from xproxy.config.balancing import BalancerConfig
from xproxy.config.discovery import DiscoveryConfig
from xproxy.config.fields import alternatives, config_fields, key_of
from xproxy.config.health import CheckConfig
from xproxy.config.kinds import enum_labels
from xproxy.config.schema import CodecConfig, Config, FilterConfig, RouteConfig, StringMatch
from xproxy.config.units import format_duration, format_size
from xproxy.model.address import Address
from xproxy.model.limits import Duration, Size
from xproxy.model.secrets import DEFAULT_SECRETS, REDACTED, SecretNames

Plain: TypeAlias = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None
"""What JSON can say."""

_NAMES: Final = frozenset({(Config, "routes"), (Config, "clusters"), (RouteConfig, "cluster")})
"""Mappings whose keys are what somebody called a thing: a cluster that is called "token" is no secret."""


def config_dump(config: Config) -> dict[str, Plain]:
    """Return the whole configuration, defaults included, as JSON can say it.

    Redacted is what fields hold whose attrs metadata has ``secret: True``, and every value below a key that is named
    like a password, a token, a key, or a header that carries one (unless that metadata is ``secret: False``); in
    texts, what is secret in URLs. Which names those are ``redaction`` can change.
    """
    return _fields(config, config.redaction)


def plain(value: object, type_: object = None, secrets: SecretNames = DEFAULT_SECRETS) -> Plain:
    """Return ``value`` as it would be written in a file, given its field's type where that matters."""
    match value:
        case FilterConfig() | CodecConfig() | BalancerConfig() | CheckConfig() | DiscoveryConfig():
            options = value.options
            rest = _fields(options, secrets) if attrs.has(type(options)) else {}
            return {"name": value.name, **rest}
        case Address() | PurePath():
            return str(value)
        case enum.Enum():
            return enum_labels(type(value))[list(type(value)).index(value)]
        case bytes():
            return secrets.clean_value(value.decode("utf-8", "replace"))
        case bool() | None:
            return value
        case str():
            return secrets.clean_value(value)
        case int() | float():
            return _number(value, type_)
        case Mapping():
            return {
                str(key): hidden(item) if secrets.hides(str(key)) else plain(item, secrets=secrets)
                for key, item in value.items()
            }
        case list() | tuple():
            return [plain(item, secrets=secrets) for item in value]
        case AbstractSet():
            return sorted((plain(item, secrets=secrets) for item in value), key=str)
        case re.Pattern():
            return str(value.pattern)
        case _ if attrs.has(type(value)):
            return _fields(value, secrets)
        case _:
            return type(value).__name__


def _fields(
    instance: Any, secrets: SecretNames
) -> dict[str, Plain]:  # Any: an instance of whatever attrs class
    found: dict[str, Plain] = {}
    for field in config_fields(type(instance)):
        key = key_of(field)
        value = getattr(instance, field.name)
        if field.metadata.get("secret", False) and value is not None:
            found[key] = REDACTED
        elif secrets.hides(key) and field.metadata.get("secret", True):
            found[key] = hidden(value)
        elif (type(instance), key) in _NAMES and isinstance(value, Mapping):
            found[key] = {str(name): plain(item, secrets=secrets) for name, item in value.items()}
        else:
            found[key] = plain(value, field.type, secrets)
    return found


def hidden(value: object) -> Plain:
    """Return the shape of ``value``, with nothing in it but names: what stands below a secret name."""
    match value:
        case None | bool():
            return value
        case StringMatch() | Address():
            return REDACTED
        case Mapping():
            return {str(key): hidden(item) for key, item in value.items()}
        case list() | tuple() | AbstractSet():
            return [hidden(item) for item in value]
        case _ if attrs.has(type(value)):
            return {
                key_of(field): hidden(getattr(value, field.name))
                for field in config_fields(type(value))
            }
        case _:
            return REDACTED


def _number(value: int | float, type_: object) -> Plain:
    kinds = alternatives(type_) or (type_,)
    if Duration in kinds:
        return format_duration(value)
    if Size in kinds:
        return format_size(int(value))
    return value
