"""States that could hold requests that wait are read where they hold none. See test_snapshot.py for the rest."""

from __future__ import annotations

import json

import msgpack
import pytest

from tests.codecs.http2.scenes import STATES, WAITING
from xproxy.codecs.http2.plugin import PLUGIN
from xproxy.codecs.http2.snapshot_v4 import without_waiting
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role

WRITTEN = json.loads(STATES.read_text())
IDLE = bytes.fromhex(WRITTEN["idle client"]["4"])


def test_what_says_that_nobody_waits_is_left_out() -> None:
    found = {"inbound": 5, "waiting": {}, "unheard": True}
    assert without_waiting(found) == {"inbound": 5}
    assert "waiting" in found, "what was given is as it was"


@pytest.mark.parametrize("version", ["3", "4"])
def test_requests_that_wait_are_refused(version: str) -> None:
    with pytest.raises(ValueError, match="requests that wait for a stream: these cannot be taken"):
        PLUGIN.restore(bytes.fromhex(WRITTEN[WAITING][version]), Role.CLIENT, DEFAULT_LIMITS)


@pytest.mark.parametrize(
    "changes",
    [{"waiting": 1}, {"waiting": []}, {"waiting": {1: {}}}, {"unheard": 1}, {"stage": "magic"}],
)
def test_forged_states_are_refused(changes: dict[str, object]) -> None:
    name, version, found = msgpack.unpackb(IDLE, strict_map_key=False)
    assert (name, version) == ("http2", 4)
    PLUGIN.restore(msgpack.packb([name, version, found]), Role.CLIENT, DEFAULT_LIMITS)
    with pytest.raises(ValueError):
        PLUGIN.restore(msgpack.packb([name, version, found | changes]), Role.CLIENT, DEFAULT_LIMITS)


@pytest.mark.parametrize("parts", [[], [1], [{}, {}]])
def test_other_parts_are_refused(parts: list[object]) -> None:
    with pytest.raises(ValueError):
        PLUGIN.restore(msgpack.packb(["http2", 4, *parts]), Role.CLIENT, DEFAULT_LIMITS)
