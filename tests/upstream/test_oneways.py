"""Serial upstreams that answer what nobody asked: no client ever reads an answer that is not to its own call."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.live import PATIENCE, Live, Upstream, running, upstream, web

CALL: Final = 1
REPLY: Final = 2
ONEWAY: Final = 4
LANES: Final = {
    "shared": "connections: shared",
    "bound": "connections: bound",
    "proxy_protocol": "proxy_protocol: v1",
}


def message(kind: int, seqid: int, text: bytes) -> bytes:
    """Return a framed call of ``m``, or an answer to one, that has a text."""
    body = struct.pack(">IIc", 0x80010000 | kind, 1, b"m")
    body += struct.pack(">I", seqid)
    body += struct.pack(">BHI", 11, 0 if kind == REPLY else 1, len(text)) + text + b"\0"
    return struct.pack(">I", len(body)) + body


async def read_message(stream: trio.SocketStream, held: bytearray) -> tuple[int, int, bytes]:
    """Return kind, sequence id and text of the next message. Raises EOFError at the end."""
    while len(held) < 4 or len(held) < 4 + int.from_bytes(held[:4]):
        if held.startswith(b"PROXY") and b"\n" in held:
            del held[: held.index(b"\n") + 1]
            continue
        data = await stream.receive_some(65536)
        if not data:
            raise EOFError
        held += data
    end = 4 + int.from_bytes(held[:4])
    whole = bytes(held[4:end])
    del held[:end]
    return whole[3], int.from_bytes(whole[9:13]), whole[20:-1]


def config(port: int, connector: str) -> str:
    text = web(port, codec="{name: thrift}")
    return text + f"    {LANES[connector]}\n"


async def serve(stream: trio.SocketStream, script: Sequence[str]) -> None:
    """Answer each message as the script says, over and over: ``once``, ``twice``, ``apart`` (twice, in two writes),
    ``ahead`` (and one to the next id), or ``other`` (to the id before).
    """
    held = bytearray()
    served = 0
    try:
        while True:
            kind, seqid, text = await read_message(stream, held)
            how = script[served % len(script)] if kind == CALL or served % 2 else "once"
            served += 1
            answer = message(REPLY, seqid, text)
            if how == "twice":
                await stream.send_all(answer * 2)
            elif how == "ahead":
                await stream.send_all(answer + message(REPLY, seqid + 1, text))
            elif how == "other":
                await stream.send_all(message(REPLY, seqid - 1, text))
            else:
                await stream.send_all(answer)
                if how == "apart":
                    await trio.lowlevel.checkpoint()
                    await stream.send_all(answer)
    except (EOFError, trio.BrokenResourceError):
        pass


async def talk(live: Live, name: str, kinds: Sequence[int], wrong: list[str]) -> None:
    """Call one after the other on one connection; each text is said once in the world."""
    client = await trio.open_tcp_stream("127.0.0.1", live.port())
    held = bytearray()
    async with client:
        for number, kind in enumerate(kinds):
            text = f"{name} {number}".encode()
            await client.send_all(message(kind, 7, text))
            if kind == CALL:
                _, seqid, said = await read_message(client, held)
                # A text, or an exception made by the proxy: it says so in the same place.
                if seqid != 7 or (said != text and b"upstream" not in said):
                    wrong.append(f"{text!r} was answered with {said!r}")


async def conversation(
    connector: str, script: Sequence[str], kinds: Sequence[Sequence[int]]
) -> None:
    wrong: list[str] = []
    async with (
        upstream() as up,
        running(config(up.port, connector)) as live,
        trio.open_nursery() as both,
    ):
        both.start_soon(accept, up, script)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number, one in enumerate(kinds):
                    nursery.start_soon(talk, live, f"client {number}", one, wrong)
        assert not wrong
        both.cancel_scope.cancel()


async def accept(up: Upstream, script: Sequence[str]) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(serve, await up.accept(), script)


_CLIENTS = st.lists(st.lists(st.sampled_from([CALL, ONEWAY]), max_size=6), min_size=1, max_size=4)
_SCRIPTS = st.lists(
    st.sampled_from(["once", "twice", "apart", "ahead", "other"]), min_size=1, max_size=4
)


@pytest.mark.parametrize("connector", LANES)
@given(script=_SCRIPTS, kinds=_CLIENTS)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_client_reads_an_answer_that_is_not_to_its_call(
    connector: str, script: list[str], kinds: list[list[int]]
) -> None:
    trio.run(conversation, connector, script, kinds)


async def test_a_oneway_message_makes_nobody_wait() -> None:
    async with upstream() as up, running(config(up.port, "shared")) as live:
        first = await trio.open_tcp_stream("127.0.0.1", live.port())
        second = await trio.open_tcp_stream("127.0.0.1", live.port())
        await first.send_all(message(ONEWAY, 1, b"slow"))
        busy, held = await up.accept(), bytearray()
        assert (await read_message(busy, held))[2] == b"slow"
        await second.send_all(message(CALL, 5, b"quick"))
        other, more = await up.accept(), bytearray()
        _, seqid, text = await read_message(other, more)
        await other.send_all(message(REPLY, seqid, text))
        assert (await read_message(second, bytearray())) == (REPLY, 5, b"quick")
        # Whoever waits for nothing goes behind it, and an answer that nobody asked for is dropped.
        await busy.send_all(message(REPLY, 1, b"slow"))
        await second.send_all(message(ONEWAY, 6, b"later"))
        assert (await read_message(busy, held))[2] == b"later"
        assert up.accepted == 2
        await first.aclose()
        await second.aclose()


async def test_where_there_may_be_one_connection_a_oneway_message_gives_it_up() -> None:
    async with upstream() as up:
        text = config(up.port, "shared")
        async with running(text + "    circuit_breakers: {max_connections: 1}\n") as live:
            client = await trio.open_tcp_stream("127.0.0.1", live.port())
            await client.send_all(message(ONEWAY, 1, b"slow"))
            busy, held = await up.accept(), bytearray()
            await client.send_all(message(CALL, 5, b"quick"))
            other = await up.accept()
            # It is closed behind its message, which is not lost.
            assert (await read_message(busy, held))[2] == b"slow"
            with pytest.raises(EOFError):
                await read_message(busy, held)
            _, seqid, said = await read_message(other, bytearray())
            await other.send_all(message(REPLY, seqid, said))
            assert (await read_message(client, bytearray())) == (REPLY, 5, b"quick")
            await client.aclose()
