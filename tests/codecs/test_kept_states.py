"""What codecs of an earlier release wrote of a connection is read, and the connection goes on as if read here."""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from tests.codecs.kept_states import Kept, load
from xproxy.codecs.api import RestoringPlugin, SupportsSnapshot
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.registry import default_registry
from xproxy.testing.reading import Reader, record
from xproxy.testing.subject import Subject

KEPT: Final = load()
CODECS: Final = ("bolt", "dubbo", "http1", "http2", "opaque", "thrift")


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("release", ["0.2.0"])
def test_it_goes_on_as_if_it_had_been_read_here(release: str, name: str) -> None:
    plugin = default_registry().codec(name)
    assert isinstance(plugin, RestoringPlugin)
    streams = {stream.name: stream for stream in record(Subject(plugin))}
    kept = [one for of, one in KEPT if (of, one.codec) == (release, name)]
    assert len(kept) >= 10
    for one in kept:
        stream = attrs.evolve(streams[one.stream], segments=(one.before + one.after,))
        reader, other = (Reader(Subject(plugin), stream) for _ in range(2))
        for each in (reader, other):
            each.look(one.before)
        other.codec = plugin.restore(one.state, stream.role, DEFAULT_LIMITS)
        assert isinstance(other.codec, SupportsSnapshot)
        again = other.codec.snapshot()
        moved = plugin.restore(again, stream.role, DEFAULT_LIMITS)
        assert isinstance(moved, SupportsSnapshot)
        assert moved.snapshot() == again, what(one)
        for each in (reader, other):
            each.act()
            each.feed(one.after)
            each.feed(None)
        assert other.events == reader.events, what(one)


def what(kept: Kept) -> str:
    return f"{kept.stream}, after {len(kept.before)} bytes"
