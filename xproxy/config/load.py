"""Loading: a file, a text or command line arguments → Config, or every mistake at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath
from typing import Any

import attrs
from cattrs import Converter

from xproxy.config.balancers import register_balancers
from xproxy.config.certificates import register_files
from xproxy.config.checks import note_as_right, problems_by_part
from xproxy.config.codecs import register_codecs
from xproxy.config.discovery import register_discovery
from xproxy.config.document import (
    MAX_TEXT_BYTES,
    Document,
    line_of,
    place_of,
    read_document,
    split_lines,
)
from xproxy.config.filters import register_filters
from xproxy.config.findings import MAX_FINDINGS, Finding, InvalidConfig, Problem
from xproxy.config.health_checks import register_health_checks
from xproxy.config.oddities import oddities
from xproxy.config.partial import UNREAD, PartlyRead, problems_of, rest_of
from xproxy.config.places import not_here
from xproxy.config.schema import (
    ClusterConfig,
    Config,
    EndpointConfig,
    FallbackConfig,
    ListenerConfig,
    RouteConfig,
)
from xproxy.config.shared_states import shared_states
from xproxy.config.structure import build_converter
from xproxy.model.address import Address, NotAnAddress
from xproxy.registry import Registry


@attrs.frozen(kw_only=True)
class Loaded:
    """A configuration that is right, with what is odd about it."""

    config: Config
    warnings: tuple[Finding, ...] = ()
    """In the order of the file. Nothing in them keeps the proxy from running."""
    text: str = attrs.field(default="", repr=False)
    """What it was read from."""
    values: object = attrs.field(default=None, repr=False)
    """The text as plain dicts, lists and scalars."""


def read_text(
    text: str,
    source: str,
    registry: Registry,
    base: FilePath = FilePath(),
    *,
    here: bool = False,
) -> Loaded:
    """Read a configuration; ``source`` names it in findings. Raises InvalidConfig with all of them.

    Files that it names are looked for in the folder ``base``. ``here``: it is to be run on this machine, so what this
    does not have (an address, a folder for a log) is a mistake.
    """
    document = read_document(text, source)
    config, problems = _read(document, registry, base.absolute())
    if problems:
        raise _invalid(document, problems)
    note_as_right(config, registry)
    if here:
        impossible = [document.finding(path, message) for path, message in not_here(config)]
        if impossible:
            raise InvalidConfig(_in_order(impossible)[:MAX_FINDINGS])
    odd = [
        document.finding(path, message, of_key=True)
        for path, message in (*oddities(config), *shared_states(config, registry))
    ]
    return Loaded(config=config, warnings=tuple(_in_order(odd)), text=text, values=document.value)


def load_text(text: str, source: str, registry: Registry, base: FilePath = FilePath()) -> Config:
    """Like ``read_text``, for those who do not show warnings."""
    return read_text(text, source, registry, base).config


def read_file(path: str | os.PathLike[str], registry: Registry) -> Loaded:
    """Read a configuration file of at most ``MAX_TEXT_BYTES``. Raises InvalidConfig, also if it cannot be read."""
    name = os.fspath(path)
    try:
        with FilePath(path).open("rb") as file:
            raw = file.read(MAX_TEXT_BYTES + 1)
    except OSError as exc:
        raise InvalidConfig([Finding(name, 0, 0, "", f"cannot be read: {exc.strerror}")]) from exc
    if len(raw) > MAX_TEXT_BYTES:
        raise InvalidConfig([Finding(name, 0, 0, "", f"longer than {MAX_TEXT_BYTES} bytes")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        place = place_of(raw[: exc.start].decode("utf-8", "replace"))
        message = f"not UTF-8: byte 0x{raw[exc.start]:02X}"
        line = line_of(split_lines(raw.decode("utf-8", "replace")), place.line)
        finding = Finding(name, place.line, place.column, "", message, source_line=line)
        raise InvalidConfig([finding]) from exc
    return read_text(text, name, registry, FilePath(path).parent, here=True)


def converter_for(registry: Registry, base: FilePath) -> Converter:
    """Return what reads plain values into the classes of a configuration; see ``build_converter``.

    Files that it names are looked for in the folder ``base``.
    """
    converter = build_converter()
    register_balancers(converter, registry)
    register_codecs(converter, registry)
    register_filters(converter, registry)
    register_health_checks(converter, registry)
    register_discovery(converter, registry)
    register_files(converter, base)
    return converter


def load_file(path: str | os.PathLike[str], registry: Registry) -> Config:
    """Like ``read_file``, for those who do not show warnings."""
    return read_file(path, registry).config


def simple(listen: str, upstreams: Sequence[str]) -> Config:
    """Return the configuration of ``xproxy run --listen … --upstream …``: detection, one route, one cluster.

    What no codec recognises goes to the same cluster as raw TCP. Raises InvalidConfig.
    """
    addresses: list[Address] = []
    findings: list[Finding] = []
    for option, text in [("--listen", listen), *(("--upstream", text) for text in upstreams)]:
        try:
            addresses.append(Address.parse(text))
        except ValueError as exc:
            suggestion = exc.suggestion if isinstance(exc, NotAnAddress) else ""
            findings.append(Finding(option, 0, 0, "", str(exc), suggestion))
    if not upstreams:
        findings.append(Finding("--upstream", 0, 0, "", "at least one is needed"))
    if findings:
        raise InvalidConfig(findings)
    name = "default"
    listener = ListenerConfig(
        name=name, address=addresses[0], routes=name, fallback=FallbackConfig(cluster=name)
    )
    endpoints = tuple(EndpointConfig(address=address) for address in addresses[1:])
    return Config(
        listeners=(listener,),
        routes={name: (RouteConfig(cluster=name),)},
        clusters={name: ClusterConfig(endpoints=endpoints)},
    )


def _read(document: Document, registry: Registry, base: FilePath) -> tuple[Config, list[Problem]]:
    """Return the configuration, or what could be read of it, and all that is wrong with it."""
    converter = converter_for(registry, base)
    problems: list[Problem] = []
    config: Any = UNREAD  # Any: as what could be read in part
    try:
        config = converter.structure(document.value, Config)
    except (Problem, PartlyRead) as exc:
        config = rest_of(exc)
        problems += problems_of(exc)
    if isinstance(config, Config):
        for found in problems_by_part(config, registry):
            problems += found
    return config, problems


def _invalid(document: Document, problems: Iterable[Problem]) -> InvalidConfig:
    """Place every problem, sort them, and word those that are shown."""
    # What stands behind an anchor is read once for each alias of it, but is to be mended, and told, once.
    found: dict[tuple[int, int, str], Problem] = {}
    for problem in problems:
        place = document.position(problem.at, of_key=problem.on_key)
        found.setdefault((place.line, place.column, problem.message), problem)
    placed = [problem for _, problem in sorted(found.items(), key=lambda item: item[0][:2])]
    return InvalidConfig.of(
        placed,
        lambda problem, near, allowed: document.finding(
            problem.at, problem.message, near, allowed, of_key=problem.on_key
        ),
    )


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: (finding.line, finding.column))
