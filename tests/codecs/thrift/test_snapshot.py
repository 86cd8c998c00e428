"""What is written down comes back, as it was written by any version, and everything else is refused."""

from __future__ import annotations

from typing import Any

import attrs
import msgpack
import pytest

from xproxy.codecs.api import SupportsSnapshot
from xproxy.codecs.packing import pack_state
from xproxy.codecs.thrift.dialect import DIALECTS, FRAMED_STRICT
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.codecs.thrift.plugin import PLUGIN
from xproxy.codecs.thrift.snapshot import CLIENT, SERVER, VERSION, ClientState, ServerState
from xproxy.codecs.thrift.state import MAX_ONEWAYS, SPARE, Waiting
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role

WAITING = ServerState(
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
ASKING = ClientState(b"held", False, {0: FRAMED_STRICT, 0xFFFFFFFF: DIALECTS[6]}, [7, 1], 9)
IDLE_SERVER = ServerState(b"", False, 0, [], False, -1, 1)
IDLE_CLIENT = ClientState(b"", False, {})

# A state, and its bytes: as they were when fields had places (version 2, by the last commit that wrote it), and as
# they are (version 3).
GOLDEN: list[tuple[ServerState | ClientState, str, str]] = [
    (
        IDLE_SERVER,
        "9aa674687269667402a6736572766572c400c20090c2ff01",
        "93a67468726966740381a4726f6c65a6736572766572",
    ),
    (
        IDLE_CLIENT,
        "98a674687269667402a6636c69656e74c400c2809000",
        "93a67468726966740381a4726f6c65a6636c69656e74",
    ),
    (
        WAITING,
        "9aa674687269667402a6736572766572c400c2039296050509c403533a6d07c096cf00000001000000"
        "050400c4016e00c4057265616479c30502",
        "93a67468726966740386a4726f6c65a6736572766572a77265667573656403a777616974696e679283a2"
        "696405a5696e6e657205a5657874726183a76469616c65637409a46e616d65c403533a6da5666c616773"
        "0784a26964cf0000000100000005a5696e6e657204a5657874726181a46e616d65c4016ea57265616479"
        "c4057265616479a76f726465726564c3a76869676865737405a5737061726502",
    ),
    (
        ASKING,
        "98a674687269667402a6636c69656e74c40468656c64c2820000ceffffffff0692070109",
        "93a67468726966740385a4726f6c65a6636c69656e74a468656c64c40468656c64a561736b6564820000"
        "ceffffffff06a76f6e6577617973920701a76c6173745f696409",
    ),
]


def pack(state: ServerState | ClientState) -> bytes:
    return SERVER.pack(state) if isinstance(state, ServerState) else CLIENT.pack(state)


@pytest.mark.parametrize(
    ("state", "version_2", "version_3"), GOLDEN, ids=[one[1][:60] for one in GOLDEN]
)
def test_states_that_were_written_once_are_read(
    state: ServerState | ClientState, version_2: str, version_3: str
) -> None:
    assert pack(state).hex() == version_3
    schema = SERVER if isinstance(state, ServerState) else CLIENT
    for written in (version_2, version_3):
        assert schema.unpack(bytes.fromhex(written)) == state
        restored = PLUGIN.restore(bytes.fromhex(written), state.role, DEFAULT_LIMITS)
        assert isinstance(restored, SupportsSnapshot)
        assert restored.snapshot().hex() == version_3


def test_an_idle_codec_writes_what_is_above() -> None:
    for role, state in ((Role.SERVER, IDLE_SERVER), (Role.CLIENT, IDLE_CLIENT)):
        codec = PLUGIN.open(role, DEFAULT_LIMITS)
        assert isinstance(codec, SupportsSnapshot)
        assert codec.snapshot() == pack(state)


def test_roles_do_not_mix() -> None:
    with pytest.raises(ValueError, match="thrift"):
        CLIENT.unpack(pack(WAITING))
    with pytest.raises(ValueError, match="thrift"):
        SERVER.unpack(pack(ASKING))


# Any: what a forger writes
def forged(state: ServerState | ClientState, **changes: Any) -> bytes:
    """Return a state with some fields changed."""
    name, version, fields = msgpack.unpackb(pack(state), strict_map_key=False)
    return pack_state(name, version, ({**fields, **changes},))


CALL = {"id": 5, "inner": 5, "extra": {"name": b"m"}}


@pytest.mark.parametrize(
    "call",
    [
        5,
        [],
        {},
        {"id": 5, "inner": 5},
        {**CALL, "id": -1},
        {**CALL, "inner": -1},
        {**CALL, "inner": 1 << 32},
        {**CALL, "extra": {}},
        {**CALL, "extra": {"name": b"m", "dialect": 99}},
        {**CALL, "extra": {"name": b"m", "dialect": -1}},
        {**CALL, "extra": {"name": b""}},
        {**CALL, "extra": {"name": b"a\nb"}},
        {**CALL, "extra": {"name": b"m" * 300}},
        {**CALL, "extra": {"name": b"m", "flags": 1 << 16}},
        {**CALL, "ready": "text"},
        {**CALL, "ready": None},
        {**CALL, "id": True},
        {**CALL, "more": 1},
    ],
)
def test_calls_that_nobody_made(call: object) -> None:
    with pytest.raises(ValueError, match="thrift has waiting, which has an item that"):
        SERVER.unpack(forged(WAITING, waiting=[call]))
    assert SERVER.unpack(forged(WAITING, waiting=[CALL])).waiting[0].stream_id == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("role", "client"),
        ("refused", -1),
        ("highest", -2),
        ("highest", 1 << 32),
        ("spare", 0),
        ("spare", 1 << 32),
        ("waiting", {}),
        ("over", 0),
    ],
)
def test_values_out_of_range(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"thrift has {name}, which is"):
        SERVER.unpack(forged(IDLE_SERVER, **{name: value}))


@pytest.mark.parametrize("asked", [{"a": 1}, {1: "a"}, {-1: 0}, {1: 12}, {1 << 32: 0}])
def test_answers_that_nobody_waits_for(asked: object) -> None:
    with pytest.raises(ValueError, match="thrift has asked, which has an item that"):
        CLIENT.unpack(forged(IDLE_CLIENT, asked=asked))


@pytest.mark.parametrize(
    ("oneways", "last_id"),
    [(["a"], 0), ([-1], 0), ([1 << 32], 0), ([5], 0), ([], -1), ([], 1 << 31)],
)
def test_oneway_calls_that_nobody_made(oneways: list[object], last_id: int) -> None:
    with pytest.raises(ValueError, match="thrift has"):
        CLIENT.unpack(forged(IDLE_CLIENT, asked={5: 0}, oneways=oneways, last_id=last_id))


def test_no_more_oneway_calls_than_are_remembered() -> None:
    with pytest.raises(ValueError, match=f"limit {MAX_ONEWAYS}"):
        CLIENT.unpack(forged(IDLE_CLIENT, oneways=list(range(MAX_ONEWAYS + 1))))


def test_the_largest_stream_id_comes_back() -> None:
    call = attrs.evolve(WAITING.waiting[0], stream_id=SPARE * SPARE - 1)
    state = attrs.evolve(WAITING, waiting=[call])
    assert SERVER.unpack(SERVER.pack(state)) == state


def test_nothing_is_held_after_the_end() -> None:
    with pytest.raises(ValueError, match="held"):
        CLIENT.unpack(forged(IDLE_CLIENT, held=b"x", over=True))
    with pytest.raises(ValueError, match="held"):
        SERVER.unpack(forged(IDLE_SERVER, held=b"x", over=True))


CALL_2 = [5, 5, 0, b"m", 0, None]


@pytest.mark.parametrize(
    "fields",
    [
        ["server", b"", False, 0, [5], True, 9, 1],
        ["server", b"", False, 0, 5, True, 9, 1],
        ["server", b"", False, 0, [CALL_2[:-1]], True, 9, 1],
        ["server", b"", False, 0, [[True, *CALL_2[1:]]], True, 9, 1],
        ["server", b"", False, 0, [[*CALL_2[:5], "text"]], True, 9, 1],
        ["server", b"", False, 0, [], True, 9, 0],
        ["server", b"", False, 0, [], True, 9],
        ["client", b"", False, {}, [], 0],
    ],
)
def test_a_state_of_version_2_is_believed_as_little(fields: list[object]) -> None:
    with pytest.raises(ValueError, match="a snapshot of thrift has"):
        SERVER.unpack(pack_state("thrift", 2, fields))
    assert VERSION == 3
