"""Two of ours back to back, and a peer that does what OpenSSL would not. OpenSSL as the peer: ``test_stream``."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.transport.tls import aead
from xproxy.transport.tls.aead import AeadCipher
from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.keys import TLS12, TLS13, Suite, hash_bytes, iv_bytes
from xproxy.transport.tls.protection import (
    DirectionState,
    Protection12,
    Protection13,
    protection_of,
)
from xproxy.transport.tls.records import ALERT, APPLICATION_DATA, HANDSHAKE
from xproxy.transport.tls.session import MAX_IDLE_RECORDS, SessionState

SUITES = [Suite(16, "sha256"), Suite(32, "sha384"), Suite(32, "sha256", chacha=True)]
KINDS = [(version, suite) for version in (TLS13, TLS12) for suite in SUITES]
EACH = pytest.mark.parametrize(("version", "suite"), KINDS)
GCM = SUITES[0]


def directions(version: str, suite: Suite) -> tuple[DirectionState, DirectionState]:
    if version == TLS13:
        size, iv = hash_bytes(suite), 0
    else:
        size, iv = suite.key_bytes, iv_bytes(suite)
    return DirectionState(b"a" * size, b"i" * iv, 3), DirectionState(b"b" * size, b"j" * iv, 9)


def pair(version: str = TLS13, suite: Suite = GCM) -> tuple[AeadCipher, AeadCipher]:
    up, down = directions(version, suite)
    return (
        AeadCipher(suite, SessionState(version=version, read=up, write=down)),
        AeadCipher(suite, SessionState(version=version, read=down, write=up)),
    )


def peer(version: str = TLS13, suite: Suite = GCM) -> Protection13 | Protection12:
    """Return what writes to the first of ``pair``."""
    return protection_of(version, suite, directions(version, suite)[0])


@EACH
def test_data_of_any_length_both_ways(version: str, suite: Suite) -> None:
    ours, theirs = pair(version, suite)
    for size in (1, 5, 16384, 16385, 100_000):
        data = bytes(range(256)) * (size // 256 + 1)
        assert theirs.decrypt(ours.encrypt(data[:size])) == data[:size]
        assert ours.decrypt(theirs.encrypt(memoryview(data)[:size])) == data[:size]
    assert ours.owed() == b""


@EACH
def test_the_end(version: str, suite: Suite) -> None:
    ours, theirs = pair(version, suite)
    farewell = theirs.farewell()
    assert ours.decrypt(farewell + b"whatever follows") == b""
    assert ours.ended
    assert theirs.farewell() == b""
    with pytest.raises(TlsError, match="has been ended"):
        theirs.encrypt(b"more")
    assert theirs.decrypt(ours.encrypt(b"still")) == b"still"


def test_a_key_update_is_answered_once_with_the_next_write() -> None:
    ours, _ = pair()
    _, theirs = pair()
    asking = peer()
    assert isinstance(asking, Protection13)
    for _ in range(3):
        assert ours.decrypt(asking.seal(HANDSHAKE, b"\x18\0\0\1\1")) == b""
        asking.update()
    assert ours.decrypt(asking.seal(APPLICATION_DATA, b"under new keys")) == b"under new keys"
    assert ours.owed() == b""
    answer = ours.encrypt(b"x")
    assert len(answer) == 27 + 23
    assert theirs.decrypt(answer) == b"x"
    assert len(ours.encrypt(b"y")) == 23


def test_our_keys_are_updated_before_they_wear_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aead, "MAX_RECORDS_PER_KEY", 12)
    ours, theirs = pair()
    sizes = set()
    for _ in range(40):
        record = ours.encrypt(b"x")
        sizes.add(len(record))
        assert theirs.decrypt(record) == b"x"
    assert sizes == {23, 50}


@pytest.mark.parametrize(
    ("kind", "content", "alert"),
    [
        (HANDSHAKE, b"", Alert.UNEXPECTED_MESSAGE),
        (HANDSHAKE, b"\1\0\0\0", Alert.UNEXPECTED_MESSAGE),
        (HANDSHAKE, b"\x18\0\0\1\7", Alert.ILLEGAL_PARAMETER),
        (ALERT, b"\1", Alert.DECODE_ERROR),
        (99, b"x", Alert.UNEXPECTED_MESSAGE),
    ],
)
def test_what_may_not_come_ends_the_session_with_an_alert(
    kind: int, content: bytes, alert: Alert
) -> None:
    ours, theirs = pair()
    writer = peer()
    records = writer.seal(APPLICATION_DATA, b"good") + writer.seal(kind, content)
    with pytest.raises(TlsError) as caught:
        ours.decrypt(records)
    assert (caught.value.alert, caught.value.before) == (alert, b"good")
    with pytest.raises(TlsError, match="the peer ended the session") as told:
        theirs.decrypt(ours.owed())
    assert (told.value.alert, told.value.received) == (alert, True)
    assert theirs.owed() == b""


def test_a_handshake_message_that_is_broken_off() -> None:
    ours, _ = pair()
    writer = peer()
    ours.decrypt(writer.seal(HANDSHAKE, b"\x18\0"))
    with pytest.raises(TlsError) as caught:
        ours.decrypt(writer.seal(ALERT, b"\1\0"))
    assert caught.value.alert is Alert.UNEXPECTED_MESSAGE


def test_alerts_of_the_peer() -> None:
    ours, _ = pair()
    writer = peer()
    assert ours.decrypt(writer.seal(ALERT, bytes((1, Alert.USER_CANCELED)))) == b""
    with pytest.raises(TlsError) as caught:
        ours.decrypt(writer.seal(ALERT, b"\2\xee"))
    assert (caught.value.alert, caught.value.detail) == (None, "the peer ended the session: 238")
    old, _ = pair(TLS12)
    assert old.decrypt(peer(TLS12).seal(ALERT, bytes((1, Alert.NO_RENEGOTIATION)))) == b""


def test_a_wish_to_renegotiate_is_declined() -> None:
    ours, theirs = pair(TLS12)
    assert ours.decrypt(peer(TLS12).seal(HANDSHAKE, b"\0\0\0\0")) == b""
    assert theirs.decrypt(ours.encrypt(b"x")) == b"x"


@EACH
def test_records_without_data_are_bounded(version: str, suite: Suite) -> None:
    ours, _ = pair(version, suite)
    writer = peer(version, suite)
    for _ in range(MAX_IDLE_RECORDS):
        ours.decrypt(writer.seal(APPLICATION_DATA, b""))
    ours.decrypt(writer.seal(APPLICATION_DATA, b"x"))
    records = b"".join(writer.seal(APPLICATION_DATA, b"") for _ in range(MAX_IDLE_RECORDS + 1))
    with pytest.raises(TlsError, match="too many records"):
        ours.decrypt(records)


@settings(max_examples=60)
@given(st.binary(max_size=120), st.sampled_from(KINDS))
def test_any_bytes_are_refused_or_wait(data: bytes, kind: tuple[str, Suite]) -> None:
    ours, _ = pair(*kind)
    for candidate in (data, b"\x17\3\3" + len(data).to_bytes(2, "big") + data):
        if candidate:
            with pytest.raises(TlsError):
                ours.decrypt(candidate)


def test_export_changes_nothing() -> None:
    ours, theirs = pair()
    ours.decrypt(theirs.encrypt(b"x"))
    state = ours.export()
    again = AeadCipher(GCM, state)
    assert again.export() == state == ours.export()
    record = theirs.encrypt(b"y")
    assert again.decrypt(record) == ours.decrypt(record) == b"y"
    assert again.encrypt(b"z") == ours.encrypt(b"z")
