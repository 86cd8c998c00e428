"""States whose fields had places are read, and believed as little. What they come to is in test_snapshot.py."""

from __future__ import annotations

import json

import msgpack
import pytest

from tests.codecs.http2.scenes import STATES
from xproxy.codecs.http2.plugin import PLUGIN
from xproxy.codecs.http2.snapshot_v3 import named
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role

BUSY = bytes.fromhex(json.loads(STATES.read_text())["busy"]["3"])


def test_each_value_gets_its_name() -> None:
    found = named(msgpack.unpackb(BUSY)[2:])
    assert found["role"] == "server"
    assert found["highest"] == 9
    assert found["frame_bytes"] == 20_000
    assert found["encoder"] == {"maximum": 60, "entries": []}
    streams = found["streams"]
    assert isinstance(streams, dict)
    assert {stream_id: stream["state"] for stream_id, stream in streams.items()} == {
        1: "open",
        3: "half-closed (remote)",
        5: "half-closed (local)",
        9: "open",
    }
    assert "block" not in found


FORGED = [
    (2, "server?"),
    (3, "nowhere"),
    (4, "maybe"),
    (5, [True] * 3),
    (5, [1] * 7),
    (6, [0] * 3),
    (6, [2**31] * 15),
    (7, [b"a", b"b"]),
    (7, [bytes(100_000)]),
    (7, b"a"),
    (8, [bytes(300_000)]),
    (8, [b"a"]),
    (9, [10, [["a", "b"]]]),
    (9, [4096, [["a", "\u0100"]]]),
    (9, [4096, [["a"]]]),
    (10, [2**40, []]),
    (11, [-1]),
    (12, [[1]]),
    (12, [[2] + [True] * 10 + [0] * 8]),
    (12, [[1] + [False] * 10 + [0] * 8]),
    (12, [[1] + [1] * 10 + [0] * 8]),
    (12, [[99] + [True] * 10 + [0] * 8]),
    (12, [[[]] + [True] * 10 + [0] * 8]),
    (13, [[1, 0]]),
    (13, [[[], 1, 1]]),
    (14, [[2], 0, []]),
    (14, [[], 0, [[1]]]),
    (15, [0]),
    (16, [[1, [], -1, False, False, True, []]]),
    (16, 1),
]


@pytest.mark.parametrize(("place", "value"), FORGED)
def test_forged_states_are_refused(place: int, value: object) -> None:
    parts = msgpack.unpackb(BUSY)
    assert parts[:2] == ["http2", 3]
    parts[place] = value
    with pytest.raises(ValueError):
        PLUGIN.restore(msgpack.packb(parts), Role.SERVER, DEFAULT_LIMITS)


@pytest.mark.parametrize("more", [-1, 1])
def test_neither_more_nor_fewer_fields(more: int) -> None:
    parts = msgpack.unpackb(BUSY)
    with pytest.raises(ValueError):
        PLUGIN.restore(msgpack.packb([*parts, 0][: len(parts) + more]), Role.SERVER, DEFAULT_LIMITS)
