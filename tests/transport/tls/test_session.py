"""Counting and following KeyUpdates on records of our own making; on OpenSSL's own in ``test_openssl``."""

from __future__ import annotations

import pytest

from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.keys import TLS12, TLS13, Suite, next_secret
from xproxy.transport.tls.protection import DirectionState, Protection12, Protection13
from xproxy.transport.tls.records import APPLICATION_DATA, HANDSHAKE
from xproxy.transport.tls.session import (
    IDLE_SECONDS,
    MAX_IDLE_RECORDS,
    IdleRecords,
    Keys,
    Session,
)

SUITE = Suite(16, "sha256")
SECRET = b"s" * 32


def session() -> tuple[Session, Protection13]:
    state = DirectionState(SECRET, b"", 0)
    return Session(TLS13, SUITE, Keys(0, 0, lambda: (state, state))), Protection13(SUITE, SECRET)


def test_records_without_data_are_counted_by_rate_and_not_for_life() -> None:
    now = 0.0
    idle = IdleRecords(lambda: now)
    for _ in range(10_000):
        now += 1.0
        idle.add(1)
    idle.reset()
    idle.add(MAX_IDLE_RECORDS)
    now += IDLE_SECONDS / 2
    with pytest.raises(TlsError, match="too many records"):
        idle.add(1)


def test_padding_is_no_key_update() -> None:
    ours, peer = session()
    ours.count_read(peer.seal(0, b"data\x17\0\0\0"), 4)
    ours.count_read(peer.seal(APPLICATION_DATA, b"x") * 2, 2)
    assert ours.export().read.count == 3
    assert ours.export().read.secret == SECRET


def test_a_key_update_among_other_records() -> None:
    ours, peer = session()
    records = peer.seal(APPLICATION_DATA, b"old") + peer.seal(HANDSHAKE, b"\x18\0\0\1\1")
    peer.update()
    records += peer.seal(APPLICATION_DATA, b"new") * 2
    # The second copy does not open: the session cannot be moved then, and says so.
    ours.count_read(records, 9)
    with pytest.raises(TlsError, match="cannot be moved: a record is not authentic"):
        ours.export()
    ours, peer = session()
    records = peer.seal(APPLICATION_DATA, b"old") + peer.seal(HANDSHAKE, b"\x18\0\0\1\1")
    peer.update()
    ours.count_read(records + peer.seal(APPLICATION_DATA, b"new"), 6)
    state = ours.export()
    assert (state.read.count, state.read.secret) == (1, next_secret(SECRET, SUITE))
    assert state.owes_update


def test_our_own_key_update_is_noticed_by_its_length() -> None:
    ours, peer = session()
    data = peer.seal(APPLICATION_DATA, b"12345")  # as long as a KeyUpdate
    ours.count_written(data, 5)
    assert ours.export().write.count == 1
    ours.count_written(peer.seal(HANDSHAKE, b"\x18\0\0\1\0") + data + data, 10)
    state = ours.export()
    assert (state.write.count, state.write.secret) == (2, next_secret(SECRET, SUITE))


def test_what_is_no_record_is_an_error() -> None:
    ours, peer = session()
    for records in (b"\x17\3\3\0\x10x", b"\x17\3", peer.seal(APPLICATION_DATA, b"x") + b"\x17"):
        with pytest.raises(TlsError, match="none"):
            ours.count_read(records, 0)


def test_explicit_nonces_go_on() -> None:
    read = DirectionState(b"k" * 16, b"salt", 1)
    write = DirectionState(b"k" * 16, b"salt", 1, (1 << 64) - 2)
    ours = Session(TLS12, SUITE, Keys(1, 1, lambda: (read, write)))
    peer = Protection12(SUITE, b"k" * 16, b"salt", 1, 7)
    for _ in range(3):
        ours.count_written(peer.seal(APPLICATION_DATA, b"x"), 1)
    state = ours.export()
    assert (state.write.count, state.write.explicit) == (4, 1)


def test_without_keys_it_counts_and_says_why_no_more() -> None:
    ours = Session(TLS13, SUITE, None, "its keys are not kept")
    _, peer = session()
    ours.count_read(peer.seal(HANDSHAKE, b"\4\0\0\0"), 0)
    ours.count_written(peer.seal(APPLICATION_DATA, b"x"), 1)
    assert (ours.read_count, ours.write_count) == (1, 1)
    assert ours.seal_alert(Alert.ACCESS_DENIED) == b""
    with pytest.raises(TlsError, match="its keys are not kept"):
        ours.export()
