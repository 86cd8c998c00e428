"""``check_codec``: every promise of the codec contract, on any codec, in one line.

    def test_conformance() -> None:
        check_codec(PLUGIN)

The kit talks through the codec, so it needs no bytes of its protocol: a client codec and a server codec wired back to
back make the streams that are then cut, changed, cut off, moved to another process, and poured in without end.
(idea: trio:src/trio/testing/_check_streams.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

from xproxy.codecs.api import NO_SAMPLES, CodecPlugin, Samples
from xproxy.testing.reading import Stream, record
from xproxy.testing.rules import bounds, exchange, reading, snapshot
from xproxy.testing.rules import plugin as plugin_rules
from xproxy.testing.subject import Broken, NotConforming, Subject

Rule: TypeAlias = Callable[[Subject], None]
StreamRule: TypeAlias = Callable[[Subject, list[Stream]], None]

_RULES: Final[Mapping[str, Rule]] = {
    "traits": plugin_rules.traits,
    "native-status": plugin_rules.native_status,
    "round-trip": exchange.round_trip,
    "statuses": exchange.statuses,
    "serial-order": exchange.serial_order,
    "interim": exchange.interim,
    "heartbeat": exchange.heartbeat,
    "goaway": exchange.goaway,
    "relayed": exchange.relayed,
    "passing-on": exchange.passing_on,
    "foreign-origin": exchange.foreign_origin,
    "local-mistakes": exchange.local_mistakes,
    "declared-length": bounds.declared_length,
    "long-heads": bounds.long_heads,
    "streamed-body": bounds.streamed_body,
    "linear-time": bounds.linear_time,
    "kept-states": snapshot.kept_states,
}

_STREAM_RULES: Final[Mapping[str, StreamRule]] = {
    "detection": plugin_rules.detection,
    "readings": reading.readings,
    "purity": reading.purity,
    "truncation": reading.truncation,
    "wrong-side": reading.wrong_side,
    "totality": reading.totality,
    "garbage-readings": reading.garbage_readings,
    "snapshots": snapshot.snapshots,
    "writing-when-moved": snapshot.writing_when_moved,
    "hostile-states": snapshot.hostile_states,
    "memory": bounds.memory,
    "claims": plugin_rules.claims,
}

RULES: Final = (*_RULES, *_STREAM_RULES)
"""The names of the rules, as failures give them; docs/how-to/write-a-codec.md explains each."""


def check_codec(plugin: CodecPlugin, *, samples: Samples | None = None) -> None:
    """Check all rules; deterministic, and a few seconds.

    Args:
        plugin: the codec's plugin object, as its entry point names it.
        samples: requests and recorded streams beyond what the kit makes up and the plugin has (``SupportsSamples``).

    Raises:
        NotConforming: names the rule, what happened, and the input in hex, shortened where possible.

    """
    with _rule(plugin, "first-words"):
        subject = Subject(plugin, samples or NO_SAMPLES)
    for name, rule in _RULES.items():
        with _rule(plugin, name):
            rule(subject)
    with _rule(plugin, "round-trip"):
        streams = record(subject)
    for name, stream_rule in _STREAM_RULES.items():
        with _rule(plugin, name):
            stream_rule(subject, streams)


@contextmanager
def _rule(plugin: CodecPlugin, name: str) -> Iterator[None]:
    """Turn whatever comes out into a NotConforming that names the rule."""
    try:
        yield
    except Broken as exc:
        raise NotConforming(plugin.name, name, exc.detail, exc.data) from exc.__cause__
    except Exception as exc:
        raise NotConforming(plugin.name, name, f"{type(exc).__name__} came out: {exc}") from exc
