"""What goes along between two real processes, whose clocks and keys are others: tickets, counters, connections."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from tests.live import GET, PATIENCE, answering, http_response, upstream, web
from tests.migration.takeover import pair
from tests.secure import NAME, context, tls
from tests.transport.tls.kit import SslPeer

WORKER = Path(__file__).with_name("worker.py")
OK = http_response(b"ok")

pytestmark = pytest.mark.slow


@attrs.define(eq=False)
class Worker:
    """A proxy that runs in a process of its own."""

    process: trio.Process
    port: int = 0
    _read: bytes = b""

    async def ask(self, what: str) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(what.encode() + b"\n")

    async def answer(self) -> object:
        assert self.process.stdout is not None
        with trio.fail_after(PATIENCE):
            while b"\n" not in self._read:
                more = await self.process.stdout.receive_some()
                assert more, "the worker has ended"
                self._read += more
        line, _, self._read = self._read.partition(b"\n")
        found: object = json.loads(line)
        return found

    async def page(self, path: str) -> list[str]:
        await self.ask(path)
        found = await self.answer()
        assert isinstance(found, str)
        return found.splitlines()


@asynccontextmanager
async def worker(role: str, sock: socket.socket, text: str) -> AsyncIterator[Worker]:
    """Run one; leaving lets it end, and sees that it does."""
    with sock:
        process = await trio.lowlevel.open_process(
            [sys.executable, str(WORKER), role, str(sock.fileno())],
            stdin=-1,
            stdout=-1,
            pass_fds=[sock.fileno()],
            env={"PYTHONPATH": str(WORKER.parents[2])},
        )
    found = Worker(process)
    try:
        await found.ask(json.dumps(text))
        port = await found.answer()
        assert isinstance(port, int)
        found.port = port
        yield found
        assert process.stdin is not None
        await process.stdin.aclose()
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def _exchange(client: SslPeer) -> None:
    await client.send_all(GET)
    answer = b""
    with trio.fail_after(PATIENCE):
        while len(answer) < len(OK):
            answer += await client.receive_some()
    assert answer == OK


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_a_client_notices_nothing_and_every_count_goes_on(version: str) -> None:
    made = context(low=version, high=version)
    ours, theirs = pair()
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering())
        text = web(up.port, listener=tls())
        async with worker("old", ours, text) as old:
            stays = SslPeer(
                await trio.open_tcp_stream("127.0.0.1", old.port), made, server_name=NAME
            )
            await stays.handshake()
            await _exchange(stays)
            await _exchange(stays)
            session = stays.object.session
            async with worker("new", theirs, text) as new:
                await old.ask("give")
                assert await new.answer() == [True, ""]
                assert await old.answer() == [True, ""]
                await _exchange(stays)
                comes = SslPeer(
                    await trio.open_tcp_stream("127.0.0.1", new.port),
                    made,
                    server_name=NAME,
                    session=session,
                )
                await comes.handshake()
                await _exchange(comes)
                assert comes.object.session_reused
                wanted = {
                    "listener.edge.downstream_cx_total: 2",
                    "listener.edge.downstream_cx_active: 2",
                    "listener.edge.downstream_tls_handshakes: 2",
                    "listener.edge.downstream_tls_resumed: 1",
                    "listener.edge.downstream_rq_total: 4",
                    "listener.edge.downstream_rq_active: 0",
                    "listener.edge.statuses.ok: 4",
                    "cluster.web.upstream_rq_total: 4",
                    "cluster.web.upstream_cx_total: 1",
                    "cluster.web.upstream_cx_active: 1",
                    "takeover.takeovers: 1",
                    "takeover.moved.http1: 1",
                }
                # Who has its answer may ask before the end of its request was counted.
                end = trio.current_time() + PATIENCE
                while missing := wanted.difference(await new.page("/stats")):
                    assert trio.current_time() < end, missing
                assert '  "generation": 2,' in await new.page("/config_dump")
                (line,) = await new.page("/clusters")
                assert "rq_active=0 rq_total=4 rq_error=0 cx_active=1" in line
                await stays.aclose()
                await comes.aclose()
        nursery.cancel_scope.cancel()
