from __future__ import annotations

import contextlib

import attrs
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.protection import DirectionState
from xproxy.transport.tls.session import SessionState
from xproxy.transport.tls.state import MAX_STATE_BYTES, StreamState, dump, load

FACTS = TlsFacts(
    sni="edge.test", alpn="h2", version="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", resumed=True
)
STATE = StreamState(
    session=SessionState(
        version="TLSv1.3",
        read=DirectionState(b"r" * 32, b"", 7),
        write=DirectionState(b"w" * 32, b"", 1 << 40),
        owes_update=True,
        message=b"\4\0",
    ),
    facts=FACTS,
    rest=b"cipher",
    ahead=b"plain",
    backlog=b"more",
    held=65,
    ended=True,
)


def test_what_is_dumped_is_loaded() -> None:
    assert load(dump(STATE)) == STATE
    plain = attrs.evolve(STATE, facts=attrs.evolve(FACTS, sni=None), held=-1, finished=True)
    assert load(dump(plain)) == plain


# ``dump(STATE).hex()``: by the last commit that wrote version 1, which left nothing out; and as it is.
GOLDEN_1 = (
    "89a17601a773657373696f6e85a776657273696f6ea7544c5376312e33a47265616484a6736563726574"
    "c4207272727272727272727272727272727272727272727272727272727272727272a26976c400a5636f"
    "756e7407a86578706c6963697400a5777269746584a6736563726574c420777777777777777777777777"
    "7777777777777777777777777777777777777777a26976c400a5636f756e74cf0000010000000000a865"
    "78706c6963697400ab6f7765735f757064617465c3a76d657373616765c4020400a5666163747386a373"
    "6e69a9656467652e74657374a4616c706ea26832a776657273696f6ea7544c5376312e33a66369706865"
    "72b6544c535f4145535f3132385f47434d5f534841323536ad706565725f6964656e74697479c0a77265"
    "73756d6564c3a472657374c406636970686572a56168656164c405706c61696ea76261636b6c6f67c404"
    "6d6f7265a468656c6441a5656e646564c3a866696e6973686564c2"
)
GOLDEN_2 = (
    "93a3746c730287a773657373696f6e85a776657273696f6ea7544c5376312e33a47265616482a6736563"
    "726574c4207272727272727272727272727272727272727272727272727272727272727272a5636f756e"
    "7407a5777269746582a6736563726574c420777777777777777777777777777777777777777777777777"
    "7777777777777777a5636f756e74cf0000010000000000ab6f7765735f757064617465c3a76d65737361"
    "6765c4020400a5666163747385a3736e69a9656467652e74657374a4616c706ea26832a776657273696f"
    "6ea7544c5376312e33a6636970686572b6544c535f4145535f3132385f47434d5f534841323536a77265"
    "73756d6564c3a472657374c406636970686572a56168656164c405706c61696ea76261636b6c6f67c404"
    "6d6f7265a468656c6441a5656e646564c3"
)


def test_states_that_were_written_once_are_read() -> None:
    assert dump(STATE).hex() == GOLDEN_2
    assert load(bytes.fromhex(GOLDEN_1)) == load(bytes.fromhex(GOLDEN_2)) == STATE


def _changed(found: dict[str, object], fields: dict[str, object]) -> dict[str, object]:
    """Change fields by path: ``session__read`` is ``read`` of ``session``."""
    for path, value in fields.items():
        *parents, name = path.split("__")
        at = found
        for parent in parents:
            inner = at[parent]
            assert isinstance(inner, dict)
            at = inner
        at[name] = value
    return found


def changed(version: object = 2, **fields: object) -> bytes:
    name, _, found = msgpack.unpackb(dump(STATE))
    return bytes(msgpack.packb([name, version, _changed(found, fields)]))


def changed_1(**fields: object) -> bytes:
    """Change a state of version 1, likewise."""
    return bytes(msgpack.packb(_changed(msgpack.unpackb(bytes.fromhex(GOLDEN_1)), fields)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x90",
        b"\x89",
        dump(STATE)[:-1],
        dump(STATE) + b"x",
        b"x" * (MAX_STATE_BYTES + 1),
        changed(1),
        changed(3),
        changed(True),
        changed(more=1),
        changed(held=256),
        changed(held=None),
        changed(session=None),
        changed(session__version="TLSv1.2"),
        changed(session__read=[]),
        changed(session__read__count="7"),
        changed(session__read__count=-1),
        changed(session__read__secret=b"x" * 65),
        changed(session__write__iv=b"x" * 13),
        changed(session__message=b"x" * 200_000),
        changed(facts__cipher="TLS_NULL"),
        changed(facts__sni=b"edge.test"),
        changed(facts__sni=None),
        changed(facts__resumed=1),
        changed(ended=0),
        changed_1()[:-1],
        changed_1(v=2),
        changed_1(v=True),
        changed_1(held=256),
        changed_1(facts=[]),
        changed_1(facts__sni=b"edge.test"),
        changed_1(session__read__count="7"),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="snapshot of tls"):
        load(data)


@settings(max_examples=100)
@given(st.integers(0, 400), st.integers(0, 255))
def test_one_byte_changed_is_refused_or_another_state(at: int, value: int) -> None:
    data = bytearray(dump(STATE) if at % 2 else bytes.fromhex(GOLDEN_1))
    data[at % len(data)] = value
    with contextlib.suppress(ValueError):
        assert isinstance(load(bytes(data)), StreamState)
