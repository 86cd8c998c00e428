"""Invariant: that of every codec; and what was read can be written in any dialect, or is refused as our own mistake.

As in ``codec``, four bytes choose. Bit 3 of the first asks for the conversion: what a server reads with an interface
is sent on by a client in the dialect of the second byte; its arguments are read by name, and that never raises.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from fuzz.targets import Seed, Target
from fuzz.targets.codec import target as codec_target
from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.thrift.dialect import DIALECTS, Protocol, Transport
from xproxy.codecs.thrift.plugin import ThriftPlugin
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head, Violation
from xproxy.model.limits import File, Limits
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing.received import received
from xproxy.testing.subject import Broken

CONVERTED = 8
"""The bit of the first byte that asks for the conversion."""
_HEADER_BYTES = 4
_LIMITS = Limits(max_message_bytes=4096)
_IDL = (File(Path(__file__).parents[2] / "tests" / "interop" / "calc.thrift"),)
_SPOKEN = [
    dialect
    for dialect in DIALECTS
    if dialect.transport is not Transport.HEADER or dialect.protocol is not Protocol.JSON
]


def target(plugin: CodecPlugin) -> Target:
    """Return the target of the codec, with the conversion."""
    every = codec_target(plugin)
    reader = ThriftPlugin(idl=_IDL)
    writers = [ThriftPlugin(transport=d.transport, protocol=d.protocol, idl=_IDL) for d in _SPOKEN]

    def check(data: bytes) -> None:
        if len(data) >= _HEADER_BYTES and data[0] & CONVERTED:
            convert(reader, writers[data[1] % len(writers)], data[_HEADER_BYTES:])
        else:
            every.check(data)

    def change(
        data: bytes, chance: random.Random, mutate: Callable[[bytes, random.Random], bytes]
    ) -> bytes:
        if len(data) < _HEADER_BYTES or not data[0] & CONVERTED:
            return every.mutate(data, chance, mutate)
        to = chance.randbytes(1) if chance.random() < 0.3 else data[1:2]
        return data[:1] + to + data[2:_HEADER_BYTES] + mutate(data[_HEADER_BYTES:], chance)

    return Target(
        name=every.name,
        check=check,
        seeds=lambda: [*every.seeds(), *_converted(every.seeds())],
        mutate=change,
    )


def _converted(seeds: object) -> list[Seed]:
    assert isinstance(seeds, list)
    found = [
        Seed(f"{seed.name}-converted", bytes((CONVERTED, index, 0, 0)) + seed.data[_HEADER_BYTES:])
        for index, seed in enumerate(seeds)
    ]
    rec = (
        b'[1,"rec",1,7,{"1":{"rec":{"1":{"str":"x"},"2":{"i32":5},"3":{"lst":["str",1,"a"]},'
        b'"4":{"map":["str","i64",1,{"k":9}]},"5":{"str":"/w=="},"6":{"dbl":1.5},"7":{"tf":1},'
        b'"8":{"set":["i16",1,3]},"9":{"i32":2},"10":{"i8":-1}}}}]'
    )
    return [
        *found,
        *(Seed(f"rec-{n}", bytes((CONVERTED, n, 0, 0)) + rec) for n in range(len(_SPOKEN))),
    ]


def convert(reader: ThriftPlugin, writer: ThriftPlugin, data: bytes) -> None:
    """Pass on what a server reads, and answer it. Raises Broken where another peer cannot read what was written."""
    server = reader.open(Role.SERVER, _LIMITS)
    for number, frame in enumerate(received(server, data)):
        if not isinstance(frame, Head):
            continue
        head = frame.message
        if not isinstance(head, RequestHead):
            raise Broken("a server reads an answer", data)
        if head.arguments is not None:
            head.arguments.get("r.name")
        client = writer.open(Role.CLIENT, _LIMITS)
        try:
            wire = client.send(Head(number, head, frame.data, end=True))
        except LocalProtocolError:
            wire = b""
        if wire:
            again = received(writer.open(Role.SERVER, Limits()), wire)
            if len(again) != 1 or not isinstance(again[0], Head):
                last = again[-1].detail if again and isinstance(again[-1], Violation) else again
                raise Broken(f"what was converted is not one call: {last}", data)
        answer = ResponseHead(status=Status.UNAVAILABLE)
        server.send(Head(frame.stream_id, answer, b"", end=True))
