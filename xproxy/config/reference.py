"""Reference pages in Markdown, from the schema's own docstrings: every key, what it takes, its default and bounds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from xproxy.config.balancers import balancer_options
from xproxy.config.balancing import BalancerConfig
from xproxy.config.breakers import CircuitBreakersConfig
from xproxy.config.codecs import options_class
from xproxy.config.discovery import DiscoveryConfig
from xproxy.config.dump import plain
from xproxy.config.fields import (
    alternatives,
    class_doc,
    config_fields,
    default_of,
    field_docs,
    is_required,
    key_of,
)
from xproxy.config.health import CheckConfig
from xproxy.config.json_schema import bounds
from xproxy.config.kinds import (
    describe,
    is_class,
    is_mapping,
    is_sequence,
    item_type,
    type_arguments,
)
from xproxy.config.schema import (
    CodecConfig,
    Config,
    FilterConfig,
    KeepaliveConfig,
    LimitsConfig,
    TimeoutsConfig,
    UpstreamLimitsConfig,
)
from xproxy.model.limits import Limits
from xproxy.observe.variables import ENVOY_NAMES, VARIABLES, Phase
from xproxy.registry import (
    CODECS,
    DISCOVERY,
    FILTERS,
    HEALTH_CHECKS,
    LOAD_BALANCERS,
    Registry,
)

_INTRODUCTION: Final = """\
# Configuration

One YAML file (`xproxy run -c FILE`), at most 8 MiB. `xproxy check -c FILE` reports every mistake in it at once, each
with its line, what is allowed there, and the nearest name. `xproxy schema` prints a JSON Schema for editors.

- **Unknown keys** are errors, as are keys given twice. What is no YAML, a tag, or a key given twice is told before
  the rest.
- **Durations** are `250ms`, `3s`, `5m`, `1h` or `0`; **sizes** are `512B`, `64KiB`, `1MiB`, `1GiB` or `0`.
- **Addresses** are `127.0.0.1:8080`, `[::1]:8080`, `name:8080` or `unix:/path`.
- Where a list of texts is expected, a single text will do.
- Only YAML 1.2's `true` and `false` are flags: `on`, `yes` and `no` are text. Anchors and aliases work; tags do not.

This page is made from the code by `make docs`.
"""
_LIMITS: Final = """\
# Limits and timeouts

The keys that bound what a peer can make the proxy hold or wait for. [TLS](config.md#listenertls), [silent
clients](config.md#serverfirst), [codecs](config.md#codecs) and [filters](config.md#filters) have some of their own.
[Limits](../explanation/limits.md) says what a peer gets that exceeds a bound, and names those that are fixed. This
page is made from the code by `make docs`.
"""


_CODECS: Final = """\
## Codecs

Written `name`, or `{name: …}` with options beside it. `xproxy codecs` lists what else is installed.
"""
_FILTERS: Final = """\
## Filters

Written `name`, or `{name: …}` with the options beside it. `xproxy filters` lists what else is installed.
"""
_DISCOVERY: Final = """\
## Discovery

Who says which endpoints a cluster has. Written `name`, or `{name: …}` with the options beside it.
"""


_BALANCERS: Final = """\
## Load balancers

Written `name`, or `{name: …}` with the options beside it.
"""


_CHECKS: Final = """\
## Health checks

Written `name`, or `{name: …}` with the options beside it.
"""


_VARIABLES: Final = """\
## Variables

What the filters `access_log` and `headers` can say of a request: `%name%`, in any case. `%name:20%` is cut to 20
characters; `%%` is a percent sign. What a request does not have is `-` in a line of text. `%REQ(name)%` and
`%RESP(name)%` are headers, `%REQ(a?b)%` is `b` where `a` is absent, and `%ARG(name)%` is an argument of a call, where
the codec knows the interface. Envoy's names work where there is one.

| variable | Envoy's name | from | what |
|---|---|---|---|"""
_FROM: Final = {
    Phase.REQUEST: "the request",
    Phase.RESPONSE: "the response's head",
    Phase.END: "the end",
}


def config_reference(registry: Registry, distribution: str | None = None) -> str:
    """Return the page of all keys, with the plugins of ``distribution`` only, or of all if None."""
    parts = [_INTRODUCTION]
    seen: set[type] = set()
    queue: list[type] = [Config]
    while queue:
        cls = queue.pop(0)
        if cls in seen or cls in (
            BalancerConfig,
            CheckConfig,
            CodecConfig,
            DiscoveryConfig,
            FilterConfig,
        ):
            continue
        seen.add(cls)
        title = "The file" if cls is Config else _title(cls)
        parts.append("\n".join(_section(f"## {title}", cls)))
        queue += [found for field in config_fields(cls) for found in _classes(field.type)]
    loaders: tuple[tuple[str, str, Callable[[str], type]], ...] = (
        (_CODECS, CODECS, lambda name: options_class(registry.codec(name))),
        (_FILTERS, FILTERS, registry.filter),
        (_BALANCERS, LOAD_BALANCERS, lambda name: balancer_options(registry, name)),
        (_CHECKS, HEALTH_CHECKS, registry.health_check),
        (_DISCOVERY, DISCOVERY, registry.discovery),
    )
    for introduction, group, load in loaders:
        parts.append(introduction)
        for entry in registry.entries(group):
            if distribution not in (None, entry.distribution):
                continue
            loaded = load(entry.name)
            parts.append("\n".join(_section(f"### `{entry.name}`", loaded)))
            for field in config_fields(loaded):
                for cls in _classes(field.type):
                    if cls not in seen:
                        seen.add(cls)
                        parts.append("\n".join(_section(f"#### {_title(cls)}", cls)))
    parts += [_VARIABLES, *_variables(), ""]
    return "\n".join(parts)


def _variables() -> Iterator[str]:
    theirs = {ours: f"`{name.upper()}`" for name, ours in ENVOY_NAMES.items()}
    for name, variable in VARIABLES.items():
        cells = (f"`{name}`", theirs.get(name, ""), _FROM[variable.phase], variable.shows)
        yield "| " + " | ".join(cells) + " |"


def limits_reference() -> str:
    """Return the page of all limits and timeouts."""
    parts = [_LIMITS]
    for title, cls in (
        ("`listeners[].limits`", LimitsConfig),
        ("`listeners[].timeouts`", TimeoutsConfig),
        ("`clusters.*.circuit_breakers`", CircuitBreakersConfig),
        ("`clusters.*.limits`", UpstreamLimitsConfig),
        ("`clusters.*.keepalive`", KeepaliveConfig),
    ):
        parts.append("\n".join(_section(f"## {title}", cls)))
    parts.append("## Fixed\n\n| limit | value | meaning |\n|---|---|---|")
    configurable = {field.name for field in attrs.fields(LimitsConfig)}
    docs = field_docs(Limits)
    parts += [
        f"| `{field.name}` | {field.default} | {_escape(docs.get(field.name, ''))} |"
        for field in attrs.fields(Limits)
        if field.name not in configurable
    ]
    parts.append("")
    return "\n".join(parts)


def _title(cls: type) -> str:
    return cls.__name__.removesuffix("Config")


def _section(title: str, cls: type) -> Iterator[str]:
    yield f"{title}\n"
    yield f"{_escape(class_doc(cls))}\n"
    fields = config_fields(cls)
    if not fields:
        return
    docs = field_docs(cls)
    yield "| key | takes | default | meaning |"
    yield "|---|---|---|---|"
    for field in fields:
        default = "required" if is_required(field) else _default(field)
        takes = _takes(field.type) + _bounds(field)
        cells = (f"`{key_of(field)}`", takes, default, _escape(docs.get(field.name, "")))
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _default(field: attrs.Attribute[Any]) -> str:  # Any: a field of any type
    value = default_of(field)
    if value is None:
        return "–"
    if attrs.has(type(value)) and is_class(type(value)):
        return "its defaults"
    written = plain(value, field.type)
    if written == "":
        return '`""`'
    return f"`{written if isinstance(written, str) else json.dumps(written, ensure_ascii=False)}`"


def _bounds(field: attrs.Attribute[Any]) -> str:  # Any: as above
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    number = int in (alternatives(field.type) or (field.type,))
    told = [
        f" {words[keyword]} {plain(bound, field.type)}"
        for keyword, bound in bounds(field).items()
        if bound or keyword != "minimum" or number  # no duration and no size is below 0
    ]
    return ",".join(told)


def _takes(type_: object) -> str:
    """Say what a key takes, with links to the classes' own tables."""
    members = [m for m in alternatives(type_) or (type_,) if m is not type(None)]
    return " or ".join(dict.fromkeys(_kind(member) for member in members))


def _kind(type_: object) -> str:
    if type_ is CodecConfig:
        return "[codec](#codecs)"
    if type_ is BalancerConfig:
        return "[load balancer](#load-balancers)"
    if type_ is FilterConfig:
        return "[filter](#filters)"
    if type_ is CheckConfig:
        return "[health check](#health-checks)"
    if type_ is DiscoveryConfig:
        return "[discovery](#discovery)"
    if is_class(type_) and isinstance(type_, type):
        before = describe(type_).removesuffix("a mapping")
        return f"{before}[{_title(type_)}](#{_title(type_).lower()})"
    if is_sequence(type_):
        return f"list of {_takes(item_type(type_))}"
    if is_mapping(type_):
        arguments = type_arguments(type_)
        return f"mapping to {_takes(arguments[1])}" if arguments else "mapping"
    return _escape(describe(type_).partition(" (")[0])


def _classes(type_: object) -> Iterator[type]:
    if is_class(type_) and isinstance(type_, type):
        yield type_
    for argument in type_arguments(type_):
        yield from _classes(argument)


def _escape(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")
