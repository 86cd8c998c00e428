"""Arguments by name: read once, when somebody asks; and a call passes whatever its arguments are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thrift.Thrift import TType  # type: ignore[import-untyped]  # ships no types

from tests.alive import parts
from tests.codecs.thrift.values import STRUCTS, Value, write
from tests.effort import rounds
from xproxy.codecs.slices import Work, at_once
from xproxy.codecs.thrift import arguments as module
from xproxy.codecs.thrift.arguments import (
    MAX_SHOWN,
    MAX_TEXT_BYTES,
    Arguments,
    read_arguments,
)
from xproxy.codecs.thrift.convert import converted
from xproxy.codecs.thrift.dialect import (
    DIALECTS,
    FRAMED_STRICT,
    Dialect,
    Protocol,
    Transport,
    dialect_of,
)
from xproxy.codecs.thrift.interface import Shape
from xproxy.codecs.thrift.plugin import ThriftPlugin
from xproxy.codecs.thrift.server import ServerCodec
from xproxy.model.frames import Frame, Head
from xproxy.model.limits import DEFAULT_LIMITS, File
from xproxy.model.message import RequestHead
from xproxy.model.traits import Role


def arguments_in(data: bytes, dialect: Dialect, shape: Shape) -> dict[str, str]:
    return at_once(read_arguments(data, dialect, shape))


USER = Shape(12)
USER.fields.update(
    {
        1: ("id", Shape(10)),
        2: ("name", Shape(11)),
        3: ("raw", Shape(11, binary=True)),
        4: ("tags", Shape(15, element=Shape(11))),
        5: ("color", Shape(8, members={2: "BLUE"})),
        6: ("rate", Shape(4)),
        7: ("on", Shape(2)),
        8: ("boss", USER),
        9: ("byte", Shape(3)),
        10: ("scores", Shape(13, key=Shape(11), element=Shape(8))),
        11: ("key", Shape(16)),
    }
)
SHOWN = {
    "id": "-5",
    "name": "ü",
    "color": "BLUE",
    "rate": "0.5",
    "on": "true",
    "boss.id": "7",
    "boss.color": "3",
    "byte": "-1",
    "key": "00112233-4455-6677-8899-aabbccddeeff",
}
JSON = (
    '{"1":{"i64":-5},"2":{"str":"ü"},"3":{"str":"AAEC"},"4":{"lst":["str",1,"x"]},"5":{"i32":2},'
    '"6":{"dbl":0.5},"7":{"tf":1},"8":{"rec":{"1":{"i64":7},"5":{"i32":3},"99":{"i32":1}}},'
    '"9":{"i8":-1},"10":{"map":["str","i32",1,{"x":1}]},'
    '"11":{"uid":"00112233-4455-6677-8899-aabbccddeeff"}}'
).encode()
framed = pytest.mark.parametrize(
    "dialect",
    [d for d in DIALECTS if d.transport is Transport.FRAMED],
    ids=lambda d: d.protocol.value,
)


@framed
def test_scalars_and_those_inside_structs(dialect: Dialect) -> None:
    source = dialect_of(Transport.FRAMED, Protocol.JSON)
    data = converted(JSON, source, dialect, 10_000, lambda: USER)
    assert arguments_in(data, dialect, USER) == SHOWN


def test_they_are_read_at_the_first_look_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read(data: bytes, dialect: Dialect, shape: Shape) -> Work[dict[str, str]]:
        reads.append(data)
        return read_arguments(data, dialect, shape)

    monkeypatch.setattr(module, "read_arguments", read)
    found = Arguments(b"\x0a\0\1" + bytes(7) + b"\7\0", FRAMED_STRICT, USER)
    assert repr(found) == "Arguments()"
    assert reads == []
    assert found.get("id") == "7"
    assert found.get("name") is None
    assert len(reads) == 1
    long = Arguments(b"\x0b\0\2\0\1\0\0" + bytes(0x10000) + b"\0", FRAMED_STRICT, USER)
    at_once(long.reading())
    at_once(long.reading())
    assert len(reads) == 2
    assert long.get("name") is None


def test_those_of_a_long_call_are_looked_for_in_slices(tmp_path: Path) -> None:
    """And no head keeps it, whoever remembers that; others have their turn meanwhile, and it can move."""
    path = tmp_path / "users.thrift"
    path.write_text("service Users { void rename(1: i64 id, 2: string name) }")
    plugin = ThriftPlugin(idl=(File(path),))
    small: Value = (TType.STRUCT, [(1, (TType.LIST, [(TType.BYTE, 1)]))])
    body = write([(9, (TType.LIST, [small] * 10_000)), (1, (TType.I64, 7))], "binary")
    client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    head = RequestHead(service="Users", method="rename")
    wire = b"".join(client.send(Head(number, head, body, end=True)) for number in (1, 2))
    codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    assert isinstance(codec, ServerCodec)
    assert not codec.receive(wire)
    assert codec.backlog_bytes == len(wire)
    moved = plugin.restore(codec.snapshot(), Role.SERVER, DEFAULT_LIMITS)
    for each in (codec, moved):
        frames: list[Frame] = []
        slices = 0
        while len(frames) < 2:
            frames += each.receive(b"")
            slices += 1
        assert slices > 40
        for frame in frames:
            assert isinstance(frame, Head)
            assert isinstance(frame.message, RequestHead)
            found = frame.message.arguments
            assert isinstance(found, Arguments)
            assert not parts(found, bytes), "it was read"
            assert found.get("id") == "7"


def test_bounds() -> None:
    longest = b"x" * MAX_TEXT_BYTES
    for text, shown in ((longest, longest.decode()), (longest + b"x", None)):
        data = b"\x0b\0\2" + len(text).to_bytes(4) + text + b"\0"
        assert arguments_in(data, FRAMED_STRICT, USER).get("name") == shown
    wide = Shape(12, fields={n: (f"a{n}", Shape(3)) for n in range(1000)})
    data = b"".join(b"\3" + n.to_bytes(2) + b"\1" for n in range(1000)) + b"\0"
    assert len(arguments_in(data, FRAMED_STRICT, wide)) == MAX_SHOWN
    deep = b"\x0c\0\x08" * 100 + b"\0" * 101
    assert arguments_in(deep, FRAMED_STRICT, USER) == {}


@framed
@settings(max_examples=60)
@given(data=st.binary(max_size=60))
def test_no_bytes_make_them_raise(dialect: Dialect, data: bytes) -> None:
    assert isinstance(arguments_in(data, dialect, USER), dict)


@settings(max_examples=60)
@given(STRUCTS)
def test_no_values_of_other_types_make_them_raise(fields: list[tuple[int, Value]]) -> None:
    for dialect in DIALECTS[:4]:
        data = write(fields, dialect.encoding.family)
        assert isinstance(arguments_in(data, dialect, USER), dict)


def test_a_request_shows_them_and_passes_as_it_came(tmp_path: Path) -> None:
    path = tmp_path / "users.thrift"
    path.write_text("service Users { void rename(1: i64 id, 2: string name), void other() }")
    plugin = ThriftPlugin(idl=(File(path),))
    client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    server = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    data = b"\x0a\0\1" + bytes(7) + b"\7\x0b\0\2\0\0\0\1x\0"
    for service, method, body, name in (
        ("", "rename", data, "x"),
        ("Users", "rename", data, "x"),
        ("", "other", data, None),
        ("", "rename", data[:-3], None),
        ("", "unknown", data, None),
    ):
        head = RequestHead(service=service, method=method)
        wire = client.send(Head(1, head, body, end=True))
        (frame,) = server.receive(wire)
        assert isinstance(frame, Head)
        assert isinstance(frame.message, RequestHead)
        found = frame.message.arguments
        assert (found.get("name") if found is not None else None) == name
        passed = plugin.open(Role.CLIENT, DEFAULT_LIMITS).send(
            Head(1, frame.message, frame.data, end=True)
        )
        assert passed == wire
        client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    assert RequestHead(service="", method="m").arguments is None


def test_what_is_looked_at_for_arguments_is_bounded() -> None:
    shape = Shape(12, fields={9: ("user", Shape(11))})
    user = (9, (TType.STRING, b"me"))
    small: Value = (TType.STRUCT, [(1, (TType.LIST, [(TType.BYTE, 1)]))])
    bound = 3e7
    for family, dialect in (
        ("binary", FRAMED_STRICT),
        ("compact", dialect_of(Transport.FRAMED, Protocol.COMPACT)),
    ):
        for before, shown in (
            ((TType.LIST, [(TType.BYTE, 1)] * 1_000_000), "me"),
            ((TType.STRING, bytes(1_000_000)), "me"),
            ((TType.LIST, [small] * 1000), "me"),
            ((TType.LIST, [small] * 200_000), None),
        ):
            data = write([(1, before), user], family)
            assert arguments_in(data, dialect, shape).get("user") == shown
            cost = rounds(lambda: arguments_in(data, dialect, shape), bound)  # noqa: B023  # called here
            assert cost < bound
    many = write([*((n, (TType.BYTE, 1)) for n in range(10, 20_000)), user], "binary")
    assert arguments_in(many, FRAMED_STRICT, shape) == {}
    assert arguments_in(write([user, (10, small)], "binary"), FRAMED_STRICT, shape) == {
        "user": "me"
    }
