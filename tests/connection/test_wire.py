"""Codec and socket of one connection: given to another process, or put in another's place."""

from __future__ import annotations

import socket

import pytest
import trio

from tests.connection.kit import memory_stream
from tests.connection.shared.wires import Mute
from tests.transport.ends import connected
from xproxy.codecs.http1.plugin import PLUGIN
from xproxy.connection.phase import Event, Phase
from xproxy.connection.wire import Wire
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.testing.fakes import LINES
from xproxy.transport.stream import ByteStream, Moved


class Plain(Wire):
    """A wire on which nothing waits to go."""

    def unsent(self) -> bytes:
        return b""


def wire_over(stream: ByteStream) -> Plain:
    return Plain(stream, PLUGIN.open(Role.SERVER, DEFAULT_LIMITS))


async def test_what_another_process_needs_is_there_while_it_is_paused() -> None:
    async with connected("polled-tcp") as (stream, peer):
        wire = wire_over(stream)
        assert not wire.codec.receive(b"GET /half HT")
        assert wire.half
        sock = wire.pause()
        assert isinstance(sock, socket.socket)
        parts = wire.export()
        assert wire.export() == parts  # it changes nothing
        assert (parts.stream, parts.unsent) == (b"", b"")
        elsewhere = PLUGIN.restore(parts.codec, Role.SERVER, DEFAULT_LIMITS)
        [head] = elsewhere.receive(b"TP/1.1\r\nhost: a\r\n\r\n")
        assert head == wire.codec.receive(b"TP/1.1\r\nhost: a\r\n\r\n")[0]
        wire.resume()
        await peer.send_all(b"x")
        assert await wire.stream.read() == b"x"


async def test_who_waits_is_told_that_it_has_moved() -> None:
    async with connected("polled-tcp") as (stream, _peer), trio.open_nursery() as nursery:
        wire = wire_over(stream)

        async def read() -> None:
            with pytest.raises(Moved):
                await wire.stream.read()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        wire.pause()
        wire.leave()
        assert wire.phase is Phase.CLOSED


async def test_what_cannot_be_written_down_says_so() -> None:
    async with memory_stream() as (stream, _peer):
        wire = Plain(stream, LINES.open(Role.SERVER, DEFAULT_LIMITS))
        with pytest.raises(ValueError, match="stream cannot be given"):
            wire.pause()
        wire.become(stream, Mute())
        with pytest.raises(ValueError, match="codec cannot be written down"):
            wire.export()


async def test_another_codec_and_socket_take_their_place() -> None:
    async with memory_stream() as (first, _one), memory_stream() as (second, _two):
        wire = wire_over(first)
        wire.after(Event.DRAIN)
        assert wire.progress is not None
        lines = LINES.open(Role.SERVER, DEFAULT_LIMITS)
        wire.become(second, lines)
        assert (wire.stream, wire.codec) == (second, lines)
        assert wire.phase is Phase.DRAINING
