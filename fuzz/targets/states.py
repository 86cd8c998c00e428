"""Invariant: of any bytes ``restore`` makes a codec that reads anything, or raises ValueError; so do TLS and moments.

The first byte chooses whose state it is, and the side; the rest is the state. The built-in loop also changes states
as what they are: lists and maps of msgpack, a leaf at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import msgpack

from fuzz.targets import Mutator, Seed, Target
from fuzz.targets.tls import state_of
from xproxy.codecs.api import CodecPlugin, RestoringPlugin, SupportsSnapshot
from xproxy.codecs.relay.plugin import PLUGIN as RELAY
from xproxy.connection.standing import Moment, RelayedStream
from xproxy.connection.wire import Parts
from xproxy.migration.packing import pack, read
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.registry import Registry
from xproxy.testing.reading import Reader, record
from xproxy.testing.rules.snapshot import survives
from xproxy.testing.subject import Broken, Subject
from xproxy.transport.proxy_protocol import V2_SIGNATURE
from xproxy.transport.tls.state import dump
from xproxy.transport.tls.stream import check as check_tls

_PLACES: Final = 6
"""States of each stream to begin with."""
_LEAVES: Final[tuple[Any, ...]] = (
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**63,
    b"",
    b"\0" * 40,
    "",
    "idle",
    [],
    {},
    0.5,
)

Check = Callable[[bytes], None]


def target(registry: Registry) -> Target:
    """Return the target of all that is restored."""
    plugins = [registry.codec(name) for name in registry.names("xproxy.codecs")]
    restoring = [plugin for plugin in (*plugins, RELAY) if isinstance(plugin, RestoringPlugin)]
    checks: list[Check] = [_codec(plugin) for plugin in restoring]
    checks += [_only_value_error(check_tls), _only_value_error(_header), _only_value_error(_moment)]

    def check(data: bytes) -> None:
        if data:
            checks[data[0] % len(checks)](data[1:])

    def seeds() -> Sequence[Seed]:
        found = []
        for number, plugin in enumerate(restoring):
            found += [
                Seed(f"{number}-{at}", bytes((number,)) + state)
                for at, state in enumerate(_states(plugin))
            ]
        tls, opening, moment = range(len(checks) - 3, len(checks))
        found += [Seed(f"tls-{n}", bytes((tls,)) + dump(state_of(n))) for n in range(4)]
        headers = (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", V2_SIGNATURE + b"\x20\0\0\0")
        found += [Seed(f"opening-{h[:5]!r}", bytes((opening,)) + h) for h in headers]
        found += [
            Seed(f"moment-{n}", bytes((moment,)) + pack(value)[0])
            for n, value in enumerate(_MOMENTS)
        ]
        return found

    return Target(name="states", check=check, seeds=seeds, mutate=_mutate)


def _codec(plugin: RestoringPlugin) -> Check:
    return lambda state: survives(plugin, state)


def _only_value_error(restore: Callable[[bytes], object]) -> Check:
    def check(state: bytes) -> None:
        try:
            restore(state)
        except ValueError:
            return
        except Exception as exc:
            raise Broken(f"{type(exc).__name__} came out: {exc}", state) from exc

    return check


def _header(data: bytes) -> None:
    OpeningMoment(header=data).check()


_MOMENTS: Final = (
    Moment(
        parts=Parts(codec=b"state", stream=b"session", unsent=b"rest"),
        half=True,
        left=1.5,
        last_id=7,
        relayed=(RelayedStream(id=3, complete=True, begun=False),),
    ),
    OpeningMoment(prefix=b"GE", header=b"PROXY UNKNOWN\r\n", left=2.5, patience=0.5, waited=1.0),
)


def _moment(data: bytes) -> None:
    found = read(data, missing=True)
    if isinstance(found, OpeningMoment):
        found.check()


def _states(plugin: CodecPlugin) -> list[bytes]:
    if plugin is RELAY:  # the kit has no words for it
        return [RELAY.open(role, DEFAULT_LIMITS).snapshot() for role in Role]
    states = []
    for stream in record(Subject(plugin)):
        data = stream.segments[0]
        for place in range(_PLACES):
            reader = Reader(Subject(plugin), attrs.evolve(stream, segments=(data,)))
            reader.look(data[: len(data) * place // (_PLACES - 1)])
            if isinstance(reader.codec, SupportsSnapshot):
                states.append(reader.codec.snapshot())
    return states


def _mutate(data: bytes, chance: random.Random, mutate: Mutator) -> bytes:
    if not data:
        return mutate(data, chance)
    whose, state = data[:1], data[1:]
    if chance.random() < 0.6:
        try:
            found = msgpack.unpackb(state, strict_map_key=False)
            return whose + bytes(msgpack.packb(_changed(found, chance)))
        except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
            pass  # by now it is no msgpack any more
    return whose + mutate(state, chance)


def _changed(value: Any, chance: random.Random) -> Any:  # Any: as above
    """Change one leaf, drop one entry, or say one twice."""
    if isinstance(value, list | dict) and value and chance.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = chance.choice(keys)
        made = value.copy()
        way = chance.random()
        if way < 0.75:
            made[key] = _changed(value[key], chance)
        elif way < 0.85:
            del made[key]
        elif isinstance(made, list):
            made.insert(key, made[key])
        else:
            made[chance.choice(_LEAVES[4:12:3])] = made[key]
        return made
    if isinstance(value, int) and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 255, 65536))
    if isinstance(value, bytes) and chance.random() < 0.5:
        return value[: chance.randrange(len(value) + 1)] + chance.randbytes(chance.randrange(9))
    return chance.choice(_LEAVES)
