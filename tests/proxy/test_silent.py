from __future__ import annotations

import msgpack
import pytest
import trio

from xproxy.config.schema import ServerFirstConfig
from xproxy.model.address import Address
from xproxy.model.limits import Duration
from xproxy.proxy.silent import CarriedSilence, SilentDestinations

A, B, C = ((Address("192.0.2.1", port), False) for port in (1, 2, 3))


def test_a_destination_is_known_for_a_while() -> None:
    known = SilentDestinations()
    assert not known.known(A, 0.0)
    known.note(A, 10.0, 8)
    assert known.known(A, 9.9)
    assert not known.known((A[0], True), 9.9), "inside TLS is another place"
    assert not known.known(A, 10.0)
    assert len(known) == 0


def test_the_one_that_was_seen_longest_ago_makes_room() -> None:
    known = SilentDestinations()
    for destination in (A, B, A, C):
        known.note(destination, 10.0, 2)
    assert [known.known(destination, 0.0) for destination in (A, B, C)] == [True, False, True]


def carried(known: SilentDestinations, remember: float = 600, most: int = 8) -> CarriedSilence:
    config = ServerFirstConfig(remember=Duration(remember), max_remembered=most)
    return CarriedSilence("edge", config, known)


async def test_another_process_knows_them_for_what_is_left() -> None:
    now = trio.current_time()
    ours, theirs = SilentDestinations(), SilentDestinations()
    assert carried(ours).carry() == b""
    secure, unix = (Address("2001:db8::1", 443), True), (Address("", 0, "/run/x.sock"), False)
    ours.note(A, now + 100, 8)
    ours.note(secure, now + 400, 8)
    ours.note(unix, now + 400, 8)
    ours.note(B, now - 1, 8)
    carried(theirs).resume(carried(ours).carry())
    assert len(theirs) == 3
    assert theirs.known(A, now + 80)
    assert theirs.known(secure, now + 380)
    assert theirs.known(unix, now + 380)
    assert not theirs.known(A, now + 101)
    assert not theirs.known((secure[0], False), now)


async def test_the_new_configuration_bounds_what_is_remembered() -> None:
    now = trio.current_time()
    ours, theirs = SilentDestinations(), SilentDestinations()
    for destination in (A, B, C):
        ours.note(destination, now + 100, 8)
    carried(theirs, remember=10, most=2).resume(carried(ours).carry())
    assert [theirs.known(destination, now) for destination in (A, B, C)] == [False, True, True]
    assert not theirs.known(C, now + 11)


@pytest.mark.parametrize(
    "fields",
    [
        {"cut": 1.0},
        {"cut": 1.0, "seen": [{"address": "192.0.2.1:1", "left": -1.0}]},
        {
            "cut": 1.0,
            "seen": [{"address": "192.0.2.1:1", "left": 9.0}, {"address": "?", "left": 1.0}],
        },
    ],
)
async def test_what_is_wrong_is_refused_as_a_whole(fields: object) -> None:
    known = SilentDestinations()
    with pytest.raises(ValueError, match=r"silent|host:port"):
        carried(known).resume(msgpack.packb(["silent destinations", 1, fields]))
    assert len(known) == 0
