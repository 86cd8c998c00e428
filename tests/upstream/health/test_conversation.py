"""One question after the other through any codec, and what becomes of a connection that says something else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.health_checks.kit import REGISTRY, Serving, answering_in, bench, scripted
from tests.live import PATIENCE, http_response
from xproxy.model.message import RequestHead, Target
from xproxy.model.status import Status
from xproxy.upstream.health.api import CheckFailed
from xproxy.upstream.health.conversation import MOST_ANSWER_BYTES, Conversation

GET = RequestHead(service="a", method="GET", extra=Target(path="/"))
CALL = RequestHead(service="demo.Health", method="ping")


@asynccontextmanager
async def conversation(serve: Serving, codec: str = "http1") -> AsyncIterator[Conversation]:
    async with bench(serve) as (by, up):
        probe = by.probe(up.port)
        try:
            with trio.fail_after(PATIENCE):
                yield await probe.converse(REGISTRY.codec(codec))
        finally:
            probe.close()


@pytest.mark.parametrize(
    ("codec", "head"), [("http1", GET), ("http2", GET), ("bolt", CALL), ("thrift", CALL)]
)
async def test_several_questions_on_one_connection(codec: str, head: RequestHead) -> None:
    data = b"\0" if codec == "thrift" else b""
    async with conversation(answering_in(codec, Status.OK), codec) as talk:
        for _ in range(5):
            assert (await talk.ask(head, data)).head.status is Status.OK
        assert talk.usable


async def test_an_answer_in_pieces_with_another_before_it() -> None:
    interim = (
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab"
    )
    rest = b"\r\n1\r\nc\r\n0\r\nx: y\r\n\r\n"

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(interim)
        await stream.send_all(rest)
        await stream.receive_some()

    async with conversation(serve) as talk:
        answer = await talk.ask(GET)
        assert answer.data == b"abc"
        assert answer.head.native_status == 200


async def test_so_much_of_a_body_is_kept() -> None:
    async with conversation(scripted(http_response(bytes(3 * MOST_ANSWER_BYTES)))) as talk:
        assert len((await talk.ask(GET)).data) == MOST_ANSWER_BYTES


async def test_a_connection_that_is_to_close_is_not_used_again() -> None:
    async with conversation(scripted(http_response(connection="close"))) as talk:
        assert (await talk.ask(GET)).head.native_status == 200
        assert not talk.usable


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", http_response(b"abc")[:-1]])
async def test_no_whole_answer_is_a_failure(answer: bytes) -> None:
    async with conversation(scripted(answer)) as talk:
        with pytest.raises(CheckFailed):
            await talk.ask(GET)


async def test_what_a_protocol_cannot_say_is_a_failure() -> None:
    async with conversation(scripted(b"")) as talk:
        with pytest.raises(CheckFailed, match="cannot say it"):
            await talk.ask(RequestHead(service="a", method="a b", extra=Target(path="/")))
