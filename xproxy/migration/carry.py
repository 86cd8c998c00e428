"""Collecting what the parts of one process know, and resuming it in the process that takes over.

Nothing that is read is believed. A part that refuses, is not there, or is configured otherwise is told by its name,
and goes on as it is; the others are not concerned.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from typing import Final

import attrs

from xproxy.codecs.packing import MAX_STATE_BYTES
from xproxy.migration.settings import DIGEST_BYTES, settings_digest
from xproxy.proxy.carried import carrying_parts
from xproxy.proxy.runtime import Runtime
from xproxy.stream.carrying import CarriedAs, SupportsCarry
from xproxy.transport.breather import at_once

MAX_PARTS: Final = 65_536
"""Parts that are collected; more are not."""

_logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Carried:
    """The state of one part."""

    kind: str
    name: str
    version: int
    data: bytes = attrs.field(repr=False)  # there may be keys in it
    """``DIGEST_BYTES`` of its settings, and what it wrote."""


@attrs.frozen(kw_only=True)
class Left:
    """A state that did not go along, and why."""

    kind: str
    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.why}"


def collect(runtime: Runtime) -> Sequence[Carried]:
    """Write down what the parts of ``runtime`` know, those that have something to tell.

    A part that fails is logged and left out, and so is one above ``MAX_STATE_BYTES``, or the second one of a name.
    """
    return at_once(collecting(runtime))


def collecting(runtime: Runtime) -> Generator[None, None, Sequence[Carried]]:
    """Do so in small steps: see ``unhurried``. 5,000 clusters take some 200 ms."""
    found: dict[tuple[str, str], Carried] = {}
    for part, what in _parts(runtime):
        yield
        try:
            carried = _write(part, what)
        except (
            Exception
        ) as exc:  # a plugin's, too: no fault of a part may keep the others from going along
            _tell("is not written", Left(kind=what.kind, name=what.name, why=reason(exc)))
            continue
        if carried is None:
            continue
        if (what.kind, what.name) in found:
            why = "two parts have this name"
            _tell("is not written", Left(kind=what.kind, name=what.name, why=why))
        elif len(found) < MAX_PARTS:
            found[what.kind, what.name] = carried
    return list(found.values())


def _write(part: SupportsCarry, what: CarriedAs) -> Carried | None:
    data = part.carry()
    if not data:
        return None
    if len(data) > MAX_STATE_BYTES:
        raise ValueError(f"{len(data)} bytes, limit {MAX_STATE_BYTES} (MAX_STATE_BYTES)")
    digest = settings_digest(what.settings)
    return Carried(kind=what.kind, name=what.name, version=what.version, data=digest + data)


def resume(runtime: Runtime, states: Sequence[Carried]) -> Sequence[Left]:
    """Let the parts of ``runtime`` go on from these states; return those that did not, which are logged, too.

    For a runtime that has its configuration, before it accepts anybody.
    """
    left: list[Left] = []
    parts: dict[tuple[str, str], tuple[SupportsCarry, CarriedAs]] = {}
    for part, what in _parts(runtime):
        parts.setdefault((what.kind, what.name), (part, what))
    for state in states[:MAX_PARTS]:
        found = parts.pop((state.kind, state.name), None)
        why = "there is no such part, or it was resumed already" if found is None else None
        if found is not None:
            try:
                _resume(*found, state)
            except Exception as exc:  # as above
                why = reason(exc)
        if why is not None:
            one = Left(kind=state.kind, name=state.name, why=why)
            left.append(one)
            _tell("does not go on from where it was", one)
    return left


def _resume(part: SupportsCarry, what: CarriedAs, state: Carried) -> None:
    if state.version != what.version and state.version not in what.reads:
        raise ValueError(f"version {state.version} is not read")
    if state.data[:DIGEST_BYTES] != settings_digest(what.settings):
        raise ValueError("it is configured otherwise")
    part.resume(state.data[DIGEST_BYTES:])


def _parts(runtime: Runtime) -> Iterator[tuple[SupportsCarry, CarriedAs]]:
    for part in carrying_parts(runtime):
        try:
            what = part.carried_as()
        except Exception as exc:  # a plugin's
            name = type(part).__qualname__
            _tell("cannot say what it is", Left(kind="part", name=name, why=reason(exc)))
        else:
            yield part, what


def reason(exc: Exception) -> str:
    """Return what an exception says of why something stays. A ValueError is the one that was agreed on.

    Any other is a fault of a part or a codec, perhaps of a plugin's: it keeps that one from going along, and no more.
    Where it came from is logged.
    """
    if isinstance(exc, ValueError):
        return str(exc)
    _logger.error("takeover: a fault of a part or a codec", exc_info=exc)
    return f"{type(exc).__name__}: {exc}"


def _tell(what: str, left: Left) -> None:
    _logger.warning("takeover: %s %s %s: %s", left.kind, left.name, what, left.why)
