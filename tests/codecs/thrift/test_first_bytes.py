"""A call of Thrift is known by all of its head, and nothing else is."""

from __future__ import annotations

import pytest

from xproxy.codecs.api import VerdictKind
from xproxy.codecs.thrift.first_bytes import judge

YES = [
    "80010001 00000001 61 00000000 00",
    "80010004 00000001 61 00000000 0c",
    "8221 00 01 61 00",
    "8281 00 01 61 1c",
    "0000000f 80010001 00000001 61 00000000",
    "0000000f 8221 8001 01 61",
    "00000040 0fff 0000 00000001 0001 00 01 01",
    "00000040 0fff 0000 00000001 0001 02 00",
    "0000000f 5b312c22 61 222c312c302c",
    "00000010 00000003 616464 01 00000000",
    "00000003 616464 01 00000000 00",
    "00000001 5f 04 00000000 00",
    "0000000c 757365722d73766324492f31 01 00000000 00",  # user-svc$I/1
    "00000003 c3bc61 01 00000000 00",  # üa
    "5b312c22 61 5c2262 222c342c312c 7b",  # a\"b
]
NO = [
    "16",
    "50",  # PRI
    "47",  # GET
    "0d",
    "01",
    "02",
    "da",
    "8002",
    "802e",  # SSL 2
    "80010000",
    "80010002",  # an answer
    "80010003",
    "80010005",
    "800101",
    "80010001 00000000",  # without a name
    "80010001 00000101",
    "80010001 00000001 00",
    "80010001 00000001 61 00000000 05",  # no type of a field
    "8222",
    "8241",
    "82a1",
    "8201",
    "8221 00 01 61 0f",
    "00000000",
    "00fa0001",  # above the frame limit
    "0000000f 8002",
    "0000000f 80010001 00000008",  # a name longer than its frame
    "0000000f 8222",
    "0000000f 0ffe",
    "0000000f 5b32",
    "0000000f dabc",  # Dubbo over Thrift
    "00000040 10",  # Tars
    "00000010 00000000",
    "00000010 00000011",
    "00001000 00000101",  # a name above its limit
    "00001000 00000004 00",  # and one that is no text
    "00000003 616464 05 00000000",
    "00000003 616464 02 00000000",
    "00000003 61 07",
    "00000101 61",
    "00000040 0fff 0000 00000001 0000",  # a header without a protocol
    "00000040 0fff 0000 00000001 0001 01",
    "00000040 0fff 0000 00000001 0001 00 05",
    "00000040 0fff 0000 00000001 0001 00 01 02",
    "00000010 0fff 0000 00000001 0040",
    "5b31 2c 2c",
    "5b312c22 61 22 5d",
    "5b312c22 61 222c322c302c",
    "78",
    "ff",
]


@pytest.mark.parametrize("prefix", YES)
def test_the_first_bytes_of_thrift(prefix: str) -> None:
    data = bytes.fromhex(prefix)
    for length in range(len(data)):
        verdict = judge(data[:length])
        assert verdict.kind is VerdictKind.MORE, length
        assert length < verdict.at_least <= len(data)
    assert judge(data).kind is VerdictKind.YES
    assert judge(data * 3).kind is VerdictKind.YES


@pytest.mark.parametrize("prefix", NO)
def test_the_first_bytes_of_others(prefix: str) -> None:
    data = bytes.fromhex(prefix)
    for length in range(len(data)):
        assert judge(data[:length]).kind is VerdictKind.MORE, length
    assert judge(data).kind is VerdictKind.NO
    assert judge(data + bytes(40)).kind is VerdictKind.NO


@pytest.mark.parametrize(
    ("prefix", "faint"),
    [
        ("00", True),
        ("000000", True),
        ("00000015 80", True),
        ("80", True),
        ("5b31", True),
        ("80010001", False),
        ("8221", False),
        ("00000015 80010001", False),
        ("5b312c22", False),
        ("00000040 0fff", False),
        ("00000011 00000004 65", True),
        ("00000004 6563", True),
    ],
)
def test_without_a_magic_number_it_may_be_anybodys(prefix: str, faint: bool) -> None:
    verdict = judge(bytes.fromhex(prefix))
    assert (verdict.kind, verdict.faint) == (VerdictKind.MORE, faint)
