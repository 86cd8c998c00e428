"""What is written down comes back, and everything else is refused."""

from __future__ import annotations

import pytest

from xproxy.codecs.packing import pack_state
from xproxy.codecs.thrift.dialect import DIALECTS, FRAMED_STRICT
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.snapshot import (
    VERSION,
    ClientState,
    ServerState,
    pack_client,
    pack_server,
    unpack_client,
    unpack_server,
)
from xproxy.codecs.thrift.state import MAX_ONEWAYS, SPARE, Waiting

SERVER = ServerState(
    b"",
    False,
    3,
    [
        Waiting(5, 5, ThriftExtra(DIALECTS[9], "S:m", flags=7), None),
        Waiting(SPARE + 5, 4, ThriftExtra(FRAMED_STRICT, "n"), b"ready"),
    ],
    True,
    5,
    2,
)


def test_states_come_back() -> None:
    assert unpack_server(pack_server(SERVER)) == SERVER
    asked = {0: FRAMED_STRICT, 0xFFFFFFFF: DIALECTS[6]}
    client = ClientState(b"held", False, asked, (7, 1), 9)
    assert unpack_client(pack_client(client)) == client


def test_roles_do_not_mix() -> None:
    with pytest.raises(ValueError, match="thrift"):
        unpack_client(pack_server(SERVER))
    with pytest.raises(ValueError, match="thrift"):
        unpack_server(pack_client(ClientState(b"", False, {})))


GOOD = [5, 5, 0, b"m", 0, None]


@pytest.mark.parametrize(
    "call",
    [
        5,
        [],
        GOOD[:-1],
        [-1, *GOOD[1:]],
        [5, -1, *GOOD[2:]],
        [5, 1 << 32, *GOOD[2:]],
        [5, 5, 99, *GOOD[3:]],
        [5, 5, 0, b"", 0, None],
        [5, 5, 0, b"a\nb", 0, None],
        [5, 5, 0, b"m" * 300, 0, None],
        [5, 5, 0, b"m", 1 << 16, None],
        [5, 5, 0, b"m", 0, "text"],
        [True, 5, 0, b"m", 0, None],
    ],
)
def test_calls_that_nobody_made(call: object) -> None:
    fields = ["server", b"", False, 0, [call], True, 9, 1]
    with pytest.raises(ValueError, match="thrift"):
        unpack_server(pack_state("thrift", VERSION, fields))
    fields[4] = [GOOD]
    assert unpack_server(pack_state("thrift", VERSION, fields)).waiting[0].stream_id == 5


@pytest.mark.parametrize(
    ("index", "value"), [(0, "client"), (3, -1), (6, -2), (6, 1 << 32), (7, 0), (7, 1 << 32)]
)
def test_numbers_out_of_range(index: int, value: object) -> None:
    fields: list[object] = ["server", b"", False, 0, [], True, 9, 1]
    fields[index] = value
    with pytest.raises(ValueError, match="thrift"):
        unpack_server(pack_state("thrift", VERSION, fields))


@pytest.mark.parametrize("asked", [{"a": 1}, {1: "a"}, {-1: 0}, {1: 12}, {1 << 32: 0}])
def test_answers_that_nobody_waits_for(asked: object) -> None:
    with pytest.raises(ValueError, match="thrift"):
        unpack_client(pack_state("thrift", VERSION, ["client", b"", False, asked, [], 0]))


@pytest.mark.parametrize(
    ("oneways", "last_id"),
    [(["a"], 0), ([-1], 0), ([1 << 32], 0), ([5], 0), ([], -1), ([], 1 << 31)],
)
def test_oneway_calls_that_nobody_made(oneways: list[object], last_id: int) -> None:
    with pytest.raises(ValueError, match="thrift"):
        unpack_client(
            pack_state("thrift", VERSION, ["client", b"", False, {5: 0}, oneways, last_id])
        )


def test_no_more_oneway_calls_than_are_remembered() -> None:
    fields = ["client", b"", False, {}, list(range(MAX_ONEWAYS + 1)), 0]
    with pytest.raises(ValueError, match="number"):
        unpack_client(pack_state("thrift", VERSION, fields))


def test_nothing_is_held_after_the_end() -> None:
    with pytest.raises(ValueError, match="held"):
        unpack_client(pack_state("thrift", VERSION, ["client", b"x", True, {}, [], 0]))
    with pytest.raises(ValueError, match="held"):
        unpack_server(pack_state("thrift", VERSION, ["server", b"x", True, 0, [], False, 0, 1]))
