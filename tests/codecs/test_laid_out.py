from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.api import (
    DEFAULT_LIMITS,
    Head,
    Kind,
    LaidOut,
    LocalProtocolError,
    RequestHead,
    ResponseHead,
    Role,
    Said,
    Status,
    Values,
    Violation,
)
from xproxy.codecs.api import SupportsIdWidth
from xproxy.codecs.laid_out import MAX_ID_BYTES, number_of, text_of
from xproxy.codecs.layout import Layout
from xproxy.model.frames import Reply, Reset
from xproxy.testing import check_codec

HEADERS: Final = ("tars", "motan2", "rpcx", "baidu_std", "ttheader", "mongodb")
"""Common RPC headers that do not fit ``length_framed``; each is declared in a file of its own."""
FOLDER: Final = Path(__file__).parent / "rpc_headers"


def plugin(name: str) -> LaidOut:
    found = importlib.import_module(f"tests.codecs.rpc_headers.{name}").PLUGIN
    assert isinstance(found, LaidOut)
    return found


@pytest.mark.parametrize("name", HEADERS)
def test_a_common_header_conforms(name: str) -> None:
    check_codec(plugin(name))


@pytest.mark.parametrize("name", HEADERS)
def test_it_is_declared_in_sixty_lines(name: str) -> None:
    lines = [line.strip() for line in (FOLDER / f"{name}.py").read_text("utf-8").splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 60


SENT: Final = {
    "motan2": "f1f1 00 08 30 0000000000000007 0000000d 4d5f70 0a 412e42 0a 4d5f6d 0a 63 00000002 6869",
    "rpcx": "0800 00 10 0000000000000007 00000016 00000003 412e42 00000001 63 00000000 00000002 6869",
    "baidu_std": "50525043 0000000e 0000000c 0a08 0a03412e42 120163 2007 6869",
    "ttheader": "00000028 1000 0000 00000007 0007 00 00 10 0003 0016 0001 31 0006 0003 412e42 0009 0001 63"
    " 01 0000 000000 6869",
    "tars": "00000034 10 01 20 00 32 00000000 42 00000007 57 00000003 412e42 67 00000001 63"
    " 7d 00 02 00000002 6869 82 00000000 98 02 00000000",
    "mongodb": "30000000 07000000 00000000 dd070000 00000000 00 19000000 10 63 00 01000000"
    " 02 24646200 04000000 412e4200 00 6869",
}
"""A call of ``c`` of ``A.B``, body ``hi``, id 7: put together by hand from each protocol's description."""


@pytest.mark.parametrize("name", HEADERS)
def test_a_call_is_what_the_description_says(name: str) -> None:
    head = RequestHead(service="A.B", method="c")
    client = plugin(name).open(Role.CLIENT, DEFAULT_LIMITS)
    assert client.send(Head(7, head, b"hi", end=True)).hex() == SENT[name].replace(" ", "")
    server = plugin(name).open(Role.SERVER, DEFAULT_LIMITS)
    (got,) = server.receive(bytes.fromhex(SENT[name]))
    assert isinstance(got, Head)
    assert isinstance(got.message, RequestHead)
    assert (got.stream_id, got.message.service, got.message.method) == (7, "A.B", "c")
    assert got.data == b"hi"


@pytest.mark.parametrize("name", HEADERS)
def test_what_is_passed_on_keeps_what_is_not_understood(name: str) -> None:
    """Fields of the protocol's own survive a proxy between: serialisation, flags, a document's other keys."""
    server = plugin(name).open(Role.SERVER, DEFAULT_LIMITS)
    wire = bytearray.fromhex(SENT[name])
    if name in ("motan2", "rpcx"):
        wire[4 if name == "motan2" else 3] = 0x50
    elif name == "ttheader":
        wire[7] = 2
    elif name == "mongodb":
        wire[16] = 1
    (got,) = server.receive(bytes(wire))
    assert isinstance(got, Head)
    client = plugin(name).open(Role.CLIENT, DEFAULT_LIMITS)
    assert client.send(attrs.evolve(got, origin=None)) == bytes(wire)


# ---- what none of them has: ids that are texts, sizes that are varints


def _read(values: Values) -> Said:
    service, _, method = values["target"].decode().partition("/")
    kind = Kind.REQUEST if values["kind"] == 1 else Kind.RESPONSE
    return Said(
        kind=kind,
        id=values["id"].decode(),
        service=service,
        method=method,
        status=values["status"],
        body=values["body"],
    )


def _write(said: Said, known: Values) -> Values:
    return {
        "kind": 1 if said.kind is Kind.REQUEST else 2,
        "id": str(said.id).encode(),
        "status": said.status,
        "target": f"{said.service}/{said.method}".encode(),
        "body": said.body,
    }


TAGGED: Final = LaidOut(
    name="tagged",
    magic=b"T",
    layout={
        "magic": "1s",
        "size": "varint=rest",
        "kind": "B",
        "status": "varint",
        "id": "varint*",
        "target": "varint*",
        "body": "*",
    },
    read=_read,
    write=_write,
    statuses={0: Status.OK, 300: Status.INTERNAL},
    text_ids=True,
)


def test_text_ids_and_varint_sizes_conform() -> None:
    check_codec(TAGGED)


def test_a_text_is_answered_as_it_was_asked_and_survives_a_snapshot() -> None:
    codec = TAGGED.open(Role.SERVER, DEFAULT_LIMITS)
    asked = {"id": b"call-\xc3\xa9/1", "kind": 1, "status": 0, "target": b"a/b", "body": b"x"}
    wire = Layout(TAGGED.layout, TAGGED.order).write({**asked, "magic": b"T"})
    (head,) = codec.receive(wire)
    assert isinstance(head, Head)
    state = codec.snapshot()  # type: ignore[attr-defined]  # every laid-out codec has it
    for server in (TAGGED.restore(state, Role.SERVER, DEFAULT_LIMITS),):
        answer = server.send(Head(head.stream_id, ResponseHead(status=Status.OK), b"y", end=True))
        assert b"call-\xc3\xa9/1" in answer


@given(st.text(max_size=40) | st.integers(0, 10**20).map(str))
def test_each_text_has_a_number_of_its_own(text: str) -> None:
    assert text_of(number_of(text)) == text


def test_an_id_has_a_longest() -> None:
    assert text_of(number_of("x" * MAX_ID_BYTES)) == "x" * MAX_ID_BYTES
    with pytest.raises(ValueError, match="limit 1024"):
        number_of("x" * (MAX_ID_BYTES + 1))


@given(st.integers(0, 2**63 - 1))
def test_numbers_of_ours_are_said_in_digits(number: int) -> None:
    assert number_of(text_of(number)) == number or number >= 10**18


def test_a_number_that_no_text_gave_cannot_be_said() -> None:
    for number in (-1, 2**63, 2**63 + 0x01FF):
        with pytest.raises(LocalProtocolError):
            text_of(number)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"layout": {"magic": "1s", "body": "*"}}, "nothing says how long body is"),
        ({"magic": b""}, "needs one of magic and recognise"),
        ({"kinds": frozenset({Kind.REQUEST})}, "lack requests or responses"),
        ({"statuses": {0: Status.OK}}, "statuses need OK and another one"),
        ({"layout": {"magic": "1s", "body": "B*=x"}}, "the format"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(fields: dict[str, object], told: str) -> None:
    declared = {f.name: getattr(TAGGED, f.name) for f in attrs.fields(LaidOut) if f.init}
    with pytest.raises(ValueError, match=told):
        LaidOut(**{**declared, **fields})


def test_whatever_an_author_makes_of_hostile_bytes_is_a_violation() -> None:
    def careless(values: Values) -> Said:
        return Said(kind=Kind.REQUEST, body=values["kind"])

    declared = attrs.evolve(TAGGED, read=careless)
    (crime,) = declared.open(Role.SERVER, DEFAULT_LIMITS).receive(b"T\x04\x01\0\0\0")
    assert isinstance(crime, Violation)


NUMBERED: Final = LaidOut(
    name="numbered",
    magic=b"N",
    layout={"magic": "1s", "size": "I=rest", "kind": "B", "id": "H", "head": "H*", "body": "*"},
    read=lambda values: Said(
        kind=Kind.REQUEST if values["kind"] == 1 else Kind.RESPONSE,
        id=values["id"],
        headers=tuple((line, "") for line in values["head"].decode().split()),
        body=values["body"],
    ),
    write=lambda said, known: {
        "kind": 1 if said.kind is Kind.REQUEST else 2,
        "id": said.id,
        "head": " ".join(name for name, _ in said.headers).encode(),
        "body": said.body,
    },
    statuses={0: Status.OK, 1: Status.INTERNAL},
    id_bits=16,
)


def test_ids_of_ours_keep_to_their_width() -> None:
    for plugin_, largest in ((NUMBERED, 0xFFFF), (TAGGED, 0x7FFF_FFFF)):
        codec = plugin_.open(Role.CLIENT, DEFAULT_LIMITS)
        assert isinstance(codec, SupportsIdWidth)
        assert codec.largest_id == largest


@pytest.mark.parametrize("head", [b"x" * 60_000, b"x " * 2_000], ids=["long", "many"])
def test_a_head_above_a_limit_fails_alone(head: bytes) -> None:
    limits = attrs.evolve(DEFAULT_LIMITS, max_head_bytes=40_000)
    raw = {}
    for kind in (1, 2):
        rest = bytes((kind,)) + (7).to_bytes(2) + len(head).to_bytes(2) + head
        raw[kind] = b"N" + len(rest).to_bytes(4) + rest
    client = NUMBERED.open(Role.CLIENT, limits)
    good = NUMBERED.open(Role.SERVER, limits)
    good.receive(
        NUMBERED.open(Role.CLIENT, limits).send(
            Head(9, RequestHead(service="", method=""), b"", end=True)
        )
    )
    neighbour = good.send(Head(9, ResponseHead(status=Status.OK), b"hi", end=True))
    failed, answer = client.receive(raw[2] + neighbour)
    assert isinstance(failed, Reset)
    assert failed.stream_id == 7
    assert isinstance(answer, Head)
    assert answer.data == b"hi"
    (reply,) = NUMBERED.open(Role.SERVER, limits).receive(raw[1])
    assert isinstance(reply, Reply)
