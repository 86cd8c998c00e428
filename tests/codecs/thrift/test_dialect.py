"""Each pair of transport and protocol is one object, whose number stays."""

from __future__ import annotations

from xproxy.codecs.thrift.dialect import (
    DIALECTS,
    FRAMED_STRICT,
    Protocol,
    Transport,
    dialect_of,
)


def test_numbers_stay_as_snapshots_hold_them() -> None:
    assert [d.number for d in DIALECTS] == list(range(12))
    assert FRAMED_STRICT.number == 0
    assert dialect_of(Transport.UNFRAMED, Protocol.COMPACT).number == 6
    assert dialect_of(Transport.HEADER, Protocol.JSON).number == 11


def test_who_answers_whom() -> None:
    old = dialect_of(Transport.FRAMED, Protocol.OLD)
    assert FRAMED_STRICT.answered_by(FRAMED_STRICT)
    assert old.answered_by(FRAMED_STRICT)
    assert not FRAMED_STRICT.answered_by(dialect_of(Transport.FRAMED, Protocol.COMPACT))
    assert not FRAMED_STRICT.answered_by(dialect_of(Transport.HEADER, Protocol.STRICT))


def test_each_has_a_pool_of_its_own_by_a_name_for_all_processes() -> None:
    names = [dialect.pool for dialect in DIALECTS]
    assert len(set(names)) == len(DIALECTS)
    assert names[:2] == ["framed binary", "framed binary-old"]
