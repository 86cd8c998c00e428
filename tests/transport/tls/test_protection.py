from __future__ import annotations

import attrs
import pytest

from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.keys import TLS12, TLS13, Suite, hash_bytes, iv_bytes
from xproxy.transport.tls.protection import (
    DirectionState,
    Protection12,
    Protection13,
    protection_of,
)
from xproxy.transport.tls.records import ALERT, APPLICATION_DATA, HANDSHAKE, MAX_FRAGMENT_BYTES

SUITES = [Suite(16, "sha256"), Suite(32, "sha384"), Suite(32, "sha256", chacha=True)]
KINDS = [(TLS13, suite) for suite in SUITES] + [(TLS12, suite) for suite in SUITES]
EACH = pytest.mark.parametrize(("version", "suite"), KINDS)


def start(version: str, suite: Suite) -> DirectionState:
    if version == TLS13:
        return DirectionState(b"s" * hash_bytes(suite), b"", 5)
    return DirectionState(b"k" * suite.key_bytes, b"i" * iv_bytes(suite), 5, 2**64 - 1)


def pair(
    version: str, suite: Suite
) -> tuple[Protection13 | Protection12, Protection13 | Protection12]:
    state = start(version, suite)
    return protection_of(version, suite, state), protection_of(version, suite, state)


@EACH
def test_what_is_sealed_opens(version: str, suite: Suite) -> None:
    writer, reader = pair(version, suite)
    for kind in (APPLICATION_DATA, HANDSHAKE, ALERT):
        for data in (b"", b"x", memoryview(b"y" * MAX_FRAGMENT_BYTES)):
            assert reader.open(writer.seal(kind, data)) == (kind, bytes(data))
    assert writer.export() == attrs.evolve(reader.export(), explicit=writer.export().explicit)
    assert reader.count == 14


@EACH
def test_a_changed_record_does_not_open(version: str, suite: Suite) -> None:
    writer, reader = pair(version, suite)
    record = writer.seal(APPLICATION_DATA, b"data")
    for at in (5, len(record) - 1):
        forged = bytearray(record)
        forged[at] ^= 1
        with pytest.raises(TlsError) as caught:
            reader.open(bytes(forged))
        assert caught.value.alert is Alert.BAD_RECORD_MAC
    assert reader.open(record) == (APPLICATION_DATA, b"data")
    with pytest.raises(TlsError):
        reader.open(record)  # a second time


@EACH
def test_a_record_of_nothing_does_not_open(version: str, suite: Suite) -> None:
    _, reader = pair(version, suite)
    for length in (0, 1, 15, 16, 17):
        with pytest.raises(TlsError):
            reader.open(b"\x17\3\3\0" + bytes((length,)) + b"x" * length)


def test_padding_is_taken_off_and_records_of_padding_refused() -> None:
    suite = SUITES[0]
    writer, reader = pair(TLS13, suite)
    assert reader.open(writer.seal(0, b"data\x17\0\0\0")) == (APPLICATION_DATA, b"data")
    with pytest.raises(TlsError, match="padding"):
        reader.open(writer.seal(0, b"\0\0"))
    with pytest.raises(TlsError, match="too much"):
        reader.open(writer.seal(0, b"x" * (MAX_FRAGMENT_BYTES + 1) + b"\x17"))


def test_records_in_clear_and_long_ones_are_refused() -> None:
    for version, suite in KINDS:
        _, reader = pair(version, suite)
        for record in (b"\x14\3\3\0\1\1", b"\x17\3\3\x48\0" + b"x" * 0x4800):
            with pytest.raises(TlsError):
                reader.open(record)


def test_explicit_nonces_are_never_used_twice() -> None:
    writer, _ = pair(TLS12, SUITES[0])
    nonces = [writer.seal(APPLICATION_DATA, b"x")[5:13] for _ in range(4)]
    assert nonces == [b"\xff" * 8, *((n).to_bytes(8, "big") for n in range(3))]


@EACH
def test_states_that_cannot_be(version: str, suite: Suite) -> None:
    state = start(version, suite)
    for wrong in (
        attrs.evolve(state, secret=state.secret + b"x"),
        attrs.evolve(state, iv=state.iv + b"x"),
        attrs.evolve(state, count=-1),
        attrs.evolve(state, count=1 << 64),
        attrs.evolve(state, explicit=-1),
    ):
        with pytest.raises(ValueError, match=r"length|range"):
            protection_of(version, suite, wrong)


def test_keys_are_not_shown() -> None:
    assert "sss" not in repr(start(TLS13, SUITES[0]))
