from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.codecs.api import VerdictKind
from xproxy.codecs.tls.hello import (
    MAX_HELLO_BYTES,
    MAX_HELLO_RECORDS,
    TLS12,
    TLS13,
    ClientHello,
    HelloBroken,
    HelloReader,
    HelloWanted,
    read_hello,
    recognise,
)

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))


def captured(path: Path) -> bytes:
    segments = json.loads(path.read_text())["connections"][0]["segments"]
    return b"".join(bytes.fromhex(s["hex"]) for s in segments if s["dir"] == "c2s" and "hex" in s)


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">HH", kind, len(data)) + data


def server_name(name: bytes) -> bytes:
    return extension(0, struct.pack(">HBH", len(name) + 3, 0, len(name)) + name)


def protocols(*names: bytes) -> bytes:
    inner = b"".join(bytes((len(name),)) + name for name in names)
    return extension(16, struct.pack(">H", len(inner)) + inner)


def versions(*numbers: int) -> bytes:
    inner = b"".join(struct.pack(">H", number) for number in numbers)
    return extension(43, bytes((len(inner),)) + inner)


def message(*extensions: bytes, legacy: int = TLS12, session: bytes = b"") -> bytes:
    body = struct.pack(">H", legacy) + b"r" * 32 + bytes((len(session),)) + session
    body += b"\0\2\x13\x01" + b"\1\0"
    if extensions:
        joined = b"".join(extensions)
        body += struct.pack(">H", len(joined)) + joined
    return b"\1" + len(body).to_bytes(3, "big") + body


def records(data: bytes, sizes: Sequence[int] = ()) -> bytes:
    out, at = b"", 0
    for size in [*sizes, len(data)]:
        piece = data[at : at + size]
        if piece:
            out += b"\x16\3\1" + struct.pack(">H", len(piece)) + piece
        at += size
    return out


def parsed(data: bytes) -> ClientHello:
    found = read_hello(data)
    assert isinstance(found, ClientHello), found
    return found


def broken(data: bytes) -> str:
    found = read_hello(data)
    assert isinstance(found, HelloBroken), found
    return found.detail


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_captured_hellos_are_read_as_described(path: Path) -> None:
    frame = json.loads(path.read_text())["connections"][0]["frames"][0]
    data = captured(path)
    hello = parsed(data)
    assert hello.server_name == frame.get("sni")
    assert list(hello.alpn) == list(frame.get("alpn") or [])
    assert hello.length == frame["length"]
    wire = bytes.fromhex(frame.get("supported_versions") or frame["legacy_version"])
    offered = [int.from_bytes(wire[i : i + 2], "big") for i in range(0, len(wire), 2)]
    assert list(hello.versions) == [v for v in offered if v & 0x0F0F != 0x0A0A]
    assert recognise(data).kind is VerdictKind.YES


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_every_prefix_asks_for_more_and_never_for_too_much(path: Path) -> None:
    data = captured(path)
    whole = parsed(data)
    for size in range(whole.length):
        found = read_hello(data[:size])
        assert isinstance(found, HelloWanted)
        assert size < found.at_least <= whole.length
        verdict = recognise(data[:size])
        if size < 6:
            assert verdict.kind is VerdictKind.MORE
            assert verdict.at_least <= 6
        else:
            assert verdict.kind is VerdictKind.YES
    assert parsed(data + b"what follows") == whole


@settings(max_examples=50)
@given(st.lists(st.integers(1, 300), max_size=20), st.integers(0, 2**32))
def test_the_split_into_records_is_invisible(sizes: list[int], seed: int) -> None:
    chance = random.Random(seed)
    data = message(
        versions(0x1A1A, TLS13, TLS12),
        server_name(b"Shop.Example."),
        extension(chance.randrange(100, 200), chance.randbytes(200)),
        protocols(b"\x8a\x8a", b"h2", b"http/1.1"),
    )
    hello = parsed(records(data, sizes))
    assert hello.server_name == "shop.example"
    assert hello.alpn == ("h2", "http/1.1")
    assert hello.versions == (TLS13, TLS12)


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    for candidate in (data, b"\x16\3\1" + data, records(b"\1" + data)):
        assert isinstance(read_hello(candidate), ClientHello | HelloWanted | HelloBroken)
        recognise(candidate)


@settings(max_examples=200)
@given(st.integers(0, 400), st.integers(0, 255))
def test_any_one_byte_changed_gets_an_answer(at: int, value: int) -> None:
    data = bytearray(records(message(server_name(b"a.test"), protocols(b"h2"), versions(TLS13))))
    data[at % len(data)] = value
    assert isinstance(read_hello(bytes(data)), ClientHello | HelloWanted | HelloBroken)


def test_without_extensions_the_old_version_counts() -> None:
    hello = parsed(records(message(legacy=0x0302, session=b"s" * 32)))
    assert hello == ClientHello(versions=(0x0302,), length=hello.length)


def test_garbage_after_the_record_head_is_seen_at_once() -> None:
    assert "no ClientHello" in broken(b"\x16\3\1\0\x05\x02")
    assert broken(b"GET /") == "a record of another type within the ClientHello"
    assert broken(b"\x16\2") == "record version"
    assert broken(b"\x16\3\x3f") == "record version"
    assert broken(b"\x16\3\1\0\0") == "record length"
    assert broken(b"\x16\3\1\xff\xff") == "record length"


def test_a_hello_that_is_too_long_is_refused_by_its_declared_length() -> None:
    start = b"\1" + (MAX_HELLO_BYTES + 1).to_bytes(3, "big")
    assert (
        broken(records(start))
        == f"the ClientHello is {MAX_HELLO_BYTES + 5} bytes, limit {MAX_HELLO_BYTES}"
    )


def test_a_hello_in_too_many_records_is_refused() -> None:
    long = message(server_name(b"a.test"), extension(99, b"x" * MAX_HELLO_RECORDS))
    data = records(long, [1] * (MAX_HELLO_RECORDS + 1))
    assert broken(data) == f"the ClientHello is in more than {MAX_HELLO_RECORDS} records"


@pytest.mark.parametrize("first", [1, 2, 3, 4])
@pytest.mark.parametrize("then", [(), (1,), (3, 1, 2), (1,) * 200])
def test_a_first_record_of_any_size_is_recognised_at_every_cut(
    first: int, then: tuple[int, ...]
) -> None:
    data = records(message(server_name(b"a.test"), versions(TLS13)), [first, *then])
    whole = parsed(data)
    assert whole.server_name == "a.test"
    reader = HelloReader()
    for size in range(len(data)):
        verdict = recognise(data[:size])
        if size < 6:
            assert verdict.kind is VerdictKind.MORE
            assert size < verdict.at_least <= 6
            continue
        assert verdict.kind is VerdictKind.YES
        found = reader.read(data[:size])
        assert isinstance(found, HelloWanted)
        assert size < found.at_least <= whole.length
        assert found == read_hello(data[:size]), "where it was read on from does not show"
    assert reader.read(data) == whole


@given(st.lists(st.integers(1, 5), max_size=60), st.data())
def test_a_prefix_may_grow_by_any_steps(sizes: list[int], drawn: st.DataObject) -> None:
    data = records(message(server_name(b"a.test"), protocols(b"h2")), sizes)
    reader, size = HelloReader(), 0
    while not isinstance(found := reader.read(data[:size]), ClientHello):
        assert isinstance(found, HelloWanted)
        size = drawn.draw(st.integers(size + 1, len(data)))
    assert found == parsed(data)


@pytest.mark.parametrize(
    ("extensions", "what"),
    [
        ((server_name(b""),), "server name"),
        ((server_name(b"a" * 256),), "server name"),
        ((server_name(b"a\0b"),), "server name"),
        ((server_name("bücher".encode()),), "server name"),
        ((extension(0, b"\0\0x"),), "server name list"),
        ((server_name(b"a"), server_name(b"b")), "an extension comes twice"),
        ((extension(16, b"\0\0"),), "protocol list"),
        ((protocols(b""),), "protocol"),
        ((extension(43, b"\0"),), "supported versions"),
        ((extension(43, b"\3\3\4\3"),), "supported versions"),
        ((b"\0\0\0",), "extension"),
        ((b"\0\0\0\x09x",), "extension"),
    ],
)
def test_a_malformed_field_is_named(extensions: tuple[bytes, ...], what: str) -> None:
    assert broken(records(message(*extensions))) == what


def test_cipher_suites_and_compression_must_be_there() -> None:
    body = struct.pack(">H", TLS12) + b"r" * 32 + b"\0"
    for rest, what in ((b"\0\0\1\0", "cipher suites"), (b"\0\2\x13\x01\0", "compression methods")):
        data = b"\1" + len(body + rest).to_bytes(3, "big") + body + rest
        assert broken(records(data)) == what
    trailing = body + b"\0\2\x13\x01\1\0\0\0!"
    data = b"\1" + len(trailing).to_bytes(3, "big") + trailing
    assert broken(records(data)) == "bytes after the extensions"


@pytest.mark.parametrize(
    "prefix",
    [
        b"G",
        b"\x15\3\1\0\2\2",
        b"\x16\2",
        b"\x16\3\5",
        b"\x16\3\1\0\0",
        b"\x16\3\1\x50",
        b"\x16\3\1\0\x20\2",
    ],
)
def test_what_is_no_tls_is_recognised_as_such(prefix: bytes) -> None:
    assert recognise(prefix).kind is VerdictKind.NO
