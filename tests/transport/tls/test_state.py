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


def changed(**fields: object) -> bytes:
    found = msgpack.unpackb(dump(STATE))
    for path, value in fields.items():
        *parents, name = path.split("__")
        at = found
        for parent in parents:
            at = at[parent]
        at[name] = value
    return bytes(msgpack.packb(found))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x90",
        dump(STATE)[:-1],
        dump(STATE) + b"x",
        b"x" * (MAX_STATE_BYTES + 1),
        changed(v=2),
        changed(v=True),
        changed(held=256),
        changed(held=None),
        changed(session=None),
        changed(session__version="TLSv1.2"),
        changed(session__read=[]),
        changed(session__read__count="7"),
        changed(session__message=b"x" * 200_000),
        changed(facts__cipher="TLS_NULL"),
        changed(facts__sni=b"edge.test"),
        changed(facts__resumed=1),
        changed(ended=0),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="TLS state"):
        load(data)


@settings(max_examples=100)
@given(st.integers(0, 400), st.integers(0, 255))
def test_one_byte_changed_is_refused_or_another_state(at: int, value: int) -> None:
    data = bytearray(dump(STATE))
    data[at % len(data)] = value
    with contextlib.suppress(ValueError):
        assert isinstance(load(bytes(data)), StreamState)
