"""JSON Schema (draft 2020-12) of a configuration file, installed filters included, for editors."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs
from attrs import validators

from xproxy.config.balancers import balancer_options
from xproxy.config.balancing import CookieConfig
from xproxy.config.breakers import RetryBudgetConfig
from xproxy.config.checks import dialects
from xproxy.config.codecs import options_class
from xproxy.config.discovery import DiscoveryConfig
from xproxy.config.dump import Plain, plain
from xproxy.config.fields import (
    Unless,
    alternatives,
    class_doc,
    config_fields,
    default_of,
    field_docs,
    is_required,
    key_of,
)
from xproxy.config.health import CheckConfig, OutlierDetectionConfig
from xproxy.config.kinds import (
    enum_labels,
    is_class,
    is_enum,
    is_literal,
    is_mapping,
    is_sequence,
    item_type,
)
from xproxy.config.schema import (
    ClusterConfig,
    Config,
    EndpointConfig,
    FilterConfig,
    ListenerConfig,
    MatchConfig,
    PathMatch,
    ProxyProtocolConfig,
    ServerFirstConfig,
    StringMatch,
)
from xproxy.config.tls import ClusterTlsConfig
from xproxy.config.units import DURATION_PATTERN, SIZE_PATTERN
from xproxy.model.address import Address
from xproxy.model.errors import PluginError
from xproxy.model.limits import Duration, File, Size
from xproxy.registry import (
    CODECS,
    DISCOVERY,
    FILTERS,
    HEALTH_CHECKS,
    LOAD_BALANCERS,
    Registry,
)

Schema: TypeAlias = dict[str, Plain]

_SCALARS: Final[Mapping[object, Schema]] = {
    str: {"type": "string"},
    bytes: {"type": "string"},
    File: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Duration: {"anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"const": 0}]},
    Size: {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"const": 0}]},
    Address: {"type": "string", "pattern": r"^(unix:.+|.+:[0-9]{1,5})$"},
}
_SHORTHANDS: Final[Mapping[type, Schema]] = {
    StringMatch: {"type": "string"},
    PathMatch: {"type": "string"},
    EndpointConfig: _SCALARS[Address],
    CookieConfig: {"type": "string"},
    ProxyProtocolConfig: {"const": True},
    ServerFirstConfig: {"const": True},
    ClusterTlsConfig: {"const": True},
    OutlierDetectionConfig: {"const": True},
    RetryBudgetConfig: {"const": True},
}
_PLUGINS: Final[Mapping[type, str]] = {
    FilterConfig: "filter",
    CheckConfig: "health_check",
    DiscoveryConfig: "discovery",
}
"""What is read by its name and the fields of a plugin's class, and what that is called."""


def json_schema(registry: Registry) -> Schema:
    """Return the schema of a file for what ``registry`` has. A filter or codec that cannot be loaded is left out."""
    return _Writer(registry).document()


class _Writer:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._definitions: Schema = {}

    def document(self) -> Schema:
        """Return the whole schema."""
        self._names("codec", CODECS)
        protocols = {*self._registry.names(CODECS), *dialects(self._registry)}
        self._definitions["protocol"] = {"enum": [*sorted(protocols)]}
        self._definitions["codec_with_options"] = self._codec()
        self._names("load_balancer", LOAD_BALANCERS)
        self._definitions["load_balancer_with_options"] = self._balancer()
        top = self._class(Config)
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "xproxy configuration",
            **top,
            "$defs": self._definitions,
        }

    def _names(self, name: str, group: str) -> None:
        self._definitions[name] = {"enum": [*self._registry.names(group)]}

    def _class(self, cls: type) -> Schema:
        docs = field_docs(cls)
        properties: Schema = {}
        for field in config_fields(cls):
            named = _NAMED.get((cls, field.name))
            written: Schema = dict(named) if named else self._type(field.type)
            if int in (alternatives(field.type) or (field.type,)):
                written |= {**bounds(field)}
            written |= _lengths(field)
            if field.name in docs:
                written["description"] = docs[field.name]
            default = None if is_required(field) else plain(default_of(field), field.type)
            if default is not None:
                written["default"] = default
            properties[key_of(field)] = written
        schema: Schema = {
            "type": "object",
            "description": class_doc(cls),
            "properties": properties,
            "additionalProperties": False,
        }
        required: list[Plain] = [
            key_of(field) for field in config_fields(cls) if is_required(field)
        ]
        if required:
            schema["required"] = required
        return schema

    def _reference(self, cls: type) -> Schema:
        name = _PLUGINS.get(cls, cls.__name__)
        if name not in self._definitions:
            self._definitions[name] = {}  # so that a class may hold itself
            if cls is FilterConfig:
                self._definitions[name] = self._plugin(FILTERS, self._registry.filter)
            elif cls is CheckConfig:
                self._definitions[name] = self._plugin(HEALTH_CHECKS, self._registry.health_check)
            elif cls is DiscoveryConfig:
                self._definitions[name] = self._plugin(DISCOVERY, self._registry.discovery)
            else:
                self._definitions[name] = self._class(cls)
        reference: Schema = {"$ref": f"#/$defs/{name}"}
        short = _SHORTHANDS.get(cls)
        return {"anyOf": [dict(short), reference]} if short else reference

    def _codec(self) -> Schema:
        forms: list[Plain] = []
        for name in self._registry.names(CODECS):
            try:
                form = self._class(options_class(self._registry.codec(name)))
            except (PluginError, NameError):
                continue
            forms.append(_named(name, form))
        return {"anyOf": forms}

    def _balancer(self) -> Schema:
        forms: list[Plain] = []
        for name in self._registry.names(LOAD_BALANCERS):
            try:
                form = self._class(balancer_options(self._registry, name))
            except (PluginError, NameError):
                continue
            forms.append(_named(name, form))
        return {"anyOf": forms}

    def _plugin(self, group: str, load: Callable[[str], type]) -> Schema:
        plain_names: list[Plain] = []
        forms: list[Plain] = []
        for name in self._registry.names(group):
            try:
                form = self._class(load(name))
            except (PluginError, NameError):
                continue
            if not form.get("required"):
                plain_names.append(name)
            forms.append(_named(name, form))
        return {"anyOf": [{"enum": plain_names}, *forms]}

    def _type(self, type_: object) -> Schema:
        if type_ in _SCALARS:
            return dict(_SCALARS[type_])
        union = alternatives(type_)
        if union is not None:
            # Null says "not given"; nobody needs an editor to offer it.
            members: list[Plain] = [self._type(m) for m in union if m is not type(None)]
            return {"anyOf": members} if len(members) > 1 else self._type(_only(union))
        if is_literal(type_):
            return {"enum": [plain(word) for word in typing.get_args(type_)]}
        if is_enum(type_):
            return {
                "enum": [*enum_labels(typing.cast("type[Any]", type_))]
            }  # Any: is_enum has just said so
        if is_class(type_):
            return self._reference(typing.cast("type", type_))
        if is_sequence(type_):
            item = item_type(type_)
            array: Schema = {"type": "array", "items": self._type(item)}
            return (
                {"anyOf": [self._type(item), array]} if item is str or is_literal(item) else array
            )
        if is_mapping(type_):
            arguments = typing.get_args(type_)
            values = self._type(arguments[1]) if arguments else {}
            return {"type": "object", "additionalProperties": values}
        return {}


def _named(name: str, form: Schema) -> Schema:
    """Put the key ``name`` before a plugin's own."""
    properties, required = form["properties"], form.get("required")
    return {
        **form,
        "properties": {
            "name": {"const": name},
            **(properties if isinstance(properties, dict) else {}),
        },
        "required": ["name", *(required if isinstance(required, list) else [])],
    }


_CODEC: Final[Schema] = {"$ref": "#/$defs/codec"}
_CODEC_WITH_OPTIONS: Final[Schema] = {"$ref": "#/$defs/codec_with_options"}
_PROTOCOL: Final[Schema] = {"$ref": "#/$defs/protocol"}
_PROTOCOLS: Final[Schema] = {"type": "array", "items": _PROTOCOL, "minItems": 1}
_CODEC_LIST: Final[Schema] = {
    "type": "array",
    "items": {"anyOf": [{"const": "auto"}, _CODEC, _CODEC_WITH_OPTIONS]},
    "minItems": 1,
}
_NAMED: Final[Mapping[tuple[type, str], Schema]] = {
    (ListenerConfig, "codecs"): {"anyOf": [{"const": "auto"}, _CODEC, _CODEC_LIST]},
    (MatchConfig, "protocol"): {"anyOf": [_PROTOCOL, _PROTOCOLS]},
    (ClusterConfig, "codec"): {
        "anyOf": [
            {"const": "auto"},
            {"const": "same"},
            {"const": "alpn"},
            _CODEC,
            _CODEC_WITH_OPTIONS,
        ]
    },
    (ClusterConfig, "load_balancer"): {
        "anyOf": [
            {"$ref": "#/$defs/load_balancer"},
            {"$ref": "#/$defs/load_balancer_with_options"},
        ]
    },
}
"""Texts that must be the name of something installed."""


# Any: attrs' validator classes are private; what is asked of them is checked by tests/config/test_json_schema.py.
_BOUND: Final[Any] = type(validators.ge(0))
_LENGTH: Final[Any] = type(validators.min_len(0))
_AND: Final[Any] = type(validators.and_())
_OPTIONAL: Final[Any] = type(validators.optional(validators.ge(0)))
_KEYWORDS: Final = {
    ">=": "minimum",
    "<=": "maximum",
    ">": "exclusiveMinimum",
    "<": "exclusiveMaximum",
}


def _only(union: tuple[object, ...]) -> object:
    return next(member for member in union if member is not type(None))


def bounds(field: attrs.Attribute[Any]) -> dict[str, float]:  # Any: a field of any type
    """Return the bounds that the field's validators set on numbers, by JSON Schema's keywords."""
    return {
        _KEYWORDS[validator.compare_op]: validator.bound
        for validator in _flat(field.validator)
        if isinstance(validator, _BOUND)
    }


def _lengths(field: attrs.Attribute[Any]) -> Schema:  # Any: as above
    kind = "minLength" if field.type is str else "minItems"
    found = [v.min_length for v in _flat(field.validator) if isinstance(v, _LENGTH)]
    return {kind: found[0]} if found else {}


def _flat(
    validator: Any,
) -> list[Any]:  # Any: attrs' validator classes are private; looked at by their fields
    if isinstance(validator, _AND):
        return [inner for part in validator._validators for inner in _flat(part)]
    if isinstance(validator, (_OPTIONAL, Unless)):
        return _flat(validator.validator)
    return [validator] if validator is not None else []
