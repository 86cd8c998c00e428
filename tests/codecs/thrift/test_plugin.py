"""The plugin thrift keeps the codec contract in every dialect, and knows its own by their first bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.codecs.thrift.recordings import RECORDINGS
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.detect import Detected, Detector
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.thrift.dialect import (
    DIALECTS,
    FRAMED_STRICT,
    Dialect,
    Protocol,
    Transport,
    dialect_of,
)
from xproxy.codecs.thrift.message import ThriftExtra, request_head
from xproxy.codecs.thrift.plugin import EXAMPLES, PLUGIN, ThriftPlugin
from xproxy.model.frames import Head
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS, File
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing import Samples, check_codec

FRAMES = [
    d
    for d in DIALECTS
    if d.transport is not Transport.UNFRAMED
    and (d.transport, d.protocol) != (Transport.HEADER, Protocol.JSON)
    and (d.transport, d.protocol) != (Transport.HEADER, Protocol.OLD)
]


def test_conformance() -> None:
    check_codec(PLUGIN, samples=Samples(recorded=tuple(r.asked for r in RECORDINGS)))


@pytest.mark.parametrize("dialect", FRAMES, ids=lambda d: f"{d.transport.value}-{d.protocol.value}")
def test_conformance_of_a_dialect(dialect: Dialect) -> None:
    headers = Headers((("x-sample", "one"), ("x-empty", ""), ("x-other", "two words")))
    request = RequestHead(
        service="xproxy.Echo", method="say", headers=headers, extra=ThriftExtra(dialect)
    )
    check_codec(PLUGIN, samples=Samples(requests=(request,)))


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_recognised_among_others_and_whole(example: bytes) -> None:
    found = Detector((HTTP1, BOLT, PLUGIN)).decide(example)
    assert isinstance(found, Detected)
    assert found.plugin is PLUGIN
    (frame,) = PLUGIN.open(Role.SERVER, DEFAULT_LIMITS).receive(example)
    assert type(frame).__name__ == "Head"


def test_a_dialect_of_its_own_for_upstreams() -> None:
    call = Head(1, RequestHead(service="", method="m"), b"\0", end=True)
    compact = ThriftPlugin(transport=Transport.UNFRAMED, protocol=Protocol.COMPACT)
    assert compact.open(Role.CLIENT, DEFAULT_LIMITS).send(call) == bytes.fromhex("822101016d00")
    plain = PLUGIN.open(Role.CLIENT, DEFAULT_LIMITS).send(call)
    assert plain[4:].startswith(bytes.fromhex("80010001"))


def test_one_half_of_a_dialect_leaves_the_other_to_the_call() -> None:
    framed = ThriftPlugin(transport=Transport.FRAMED)
    for protocol in Protocol:
        call = request_head(dialect_of(Transport.UNFRAMED, protocol), False, b"m", b"", 0, 10)
        assert framed.pool_of(call) == dialect_of(Transport.FRAMED, protocol).pool
        assert PLUGIN.pool_of(call) == dialect_of(Transport.UNFRAMED, protocol).pool
    assert framed.pool_of(RequestHead(service="", method="m")) == FRAMED_STRICT.pool


def test_options_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="no protocol json"):
        ThriftPlugin(transport=Transport.HEADER, protocol=Protocol.JSON)
    with pytest.raises(ValueError, match=r"'nowhere\.thrift' cannot be read"):
        ThriftPlugin(idl=(File(Path("nowhere.thrift")),))


def test_equal_options_make_equal_plugins() -> None:
    assert ThriftPlugin(transport=Transport.FRAMED) == ThriftPlugin(transport=Transport.FRAMED)
    assert ThriftPlugin(transport=Transport.FRAMED) != PLUGIN


def test_codes() -> None:
    assert PLUGIN.code_of(ResponseHead(status=Status.NOT_FOUND)) == 1
    assert PLUGIN.status_of(7) is Status.INVALID_ARGUMENT
