"""Streams that a peer begins: who serves them, how many at a time, and what becomes of them at the end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.alive import part
from tests.connection.rpc import ASK, Gate, echo, oneway, question, reply, talk, upstream
from xproxy.codecs.api import CodecPlugin
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.shared.served import Served
from xproxy.model.errors import RequestBroken
from xproxy.model.frames import Data, Head, Reset
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing import play
from xproxy.testing.fakes import LINES, PIECES
from xproxy.testing.proxy import ProxyPair, proxy_pair


def served_of(pair: ProxyPair) -> Served:
    assert isinstance(pair.driver, Multiplexed)
    return part(pair.driver, Served)


async def test_a_worker_that_waits_is_given_the_next_stream(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        served = served_of(pair)
        await pair.client.send(question(1, b"a"))
        await wait_all_tasks_blocked()
        [worker] = served.by_id.values()
        gate.let_go(b"a")
        await pair.client.expect(reply(1, b"a"))
        await wait_all_tasks_blocked()
        assert (served.by_id, served.idle) == ({}, [worker])
        await pair.client.send(question(7, b"b") + question(8, b"c"))
        await wait_all_tasks_blocked()
        assert served.idle == []
        assert served.by_id[7] is worker
        assert served.by_id[8] is not worker


async def test_an_id_in_use_gets_a_key_that_no_peer_can_say(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        served = served_of(pair)
        await pair.client.send(oneway(0, b"a") + oneway(0, b"b") + oneway(0, b"c"))
        await wait_all_tasks_blocked()
        assert list(served.by_id) == [0, -1, -2]
        gate.let_go(b"b")
        await wait_all_tasks_blocked()
        assert list(served.by_id) == [0, -2]


async def test_without_a_port_a_request_is_refused(autojump_clock: MockClock) -> None:
    async with upstream() as u:
        await u.peer.send(question(3))
        await u.peer.expect(reply(3, status=Status.UNIMPLEMENTED.value))
        assert u.connection.streams == 0
        assert not part(u.connection, Served).crowded


@pytest.mark.parametrize(("plugin", "most"), [(LINES, 2), (PIECES, 4)])
async def test_how_many_streams_are_a_crowd(
    plugin: CodecPlugin, most: int, autojump_clock: MockClock
) -> None:
    # In pieces, credit and resets must be read on while all streams wait for them: the codec keeps the limit.
    async with proxy_pair(plugin, handler=Gate(), max_streams=2) as pair:
        await wait_all_tasks_blocked()
        served = served_of(pair)
        for stream_id in range(1, most + 1):
            assert not served.crowded
            served.requested(Head(stream_id, ASK, b"", True))
        assert served.crowded


async def test_a_reset_cancels_its_stream_and_no_other(autojump_clock: MockClock) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(1, b"a") + question(2, b"b"))
        await wait_all_tasks_blocked()
        served = served_of(pair)
        for stream_id in (1, 9):  # the latter is over, or never was
            served.reset(Reset(stream_id, Status.CANCELLED))
        await wait_all_tasks_blocked()
        assert gate.cancelled == [b"a"]
        assert list(served.by_id) == [2]


async def test_a_worker_is_withdrawn_once(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=echo) as pair:
        await play(pair.client >> question(1), pair.client << reply(1))
        await wait_all_tasks_blocked()
        served = served_of(pair)
        [worker] = served.idle
        served.withdraw(worker)
        served.withdraw(worker)
        assert served.idle == []
        worker.dismiss()


async def test_those_who_wait_go_home_when_no_stream_will_come(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=echo) as pair:
        await play(pair.client >> question(1), pair.client << reply(1))
        await wait_all_tasks_blocked()
        served = served_of(pair)
        before = trio.lowlevel.current_statistics().tasks_living
        served.dismiss()
        await wait_all_tasks_blocked()
        assert served.idle == []
        assert trio.lowlevel.current_statistics().tasks_living == before - 1


async def test_nobody_goes_back_to_wait_once_the_connection_takes_no_more(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(question(1, b"a"))
        await wait_all_tasks_blocked()
        served = served_of(pair)
        pair.driver.drain()
        late = [served.answered_late]
        gate.let_go(b"a")
        await wait_all_tasks_blocked()
        late.append(served.answered_late)
        assert late == [False, True]
        assert (served.by_id, served.idle) == ({}, [])


async def test_half_a_request_is_cut_off_and_a_whole_one_goes_on(
    autojump_clock: MockClock,
) -> None:
    failed: list[str] = []
    gate = Gate()

    async def handle(request: Request) -> Response:
        if isinstance(request.body, BytesBody):
            return await gate(request)
        try:
            while True:
                await request.body.receive()
        except RequestBroken as error:
            failed.append(error.detail)
            raise

    async with proxy_pair(PIECES, handler=handle) as pair:
        client = talk(pair.client, Role.CLIENT)
        await client.send(Head(1, ASK), Data(1, b"half"), Head(2, ASK, b"", True))
        await wait_all_tasks_blocked()
        served = served_of(pair)
        served.cut_off()
        await wait_all_tasks_blocked()
        assert failed == ["the request ended in the middle of its body"]
        assert list(served.by_id) == [2]


async def test_oneway_messages_outlive_whoever_asked_and_the_loss_is_counted_once(
    autojump_clock: MockClock,
) -> None:
    gate = Gate()
    async with proxy_pair(LINES, handler=gate) as pair:
        await pair.client.send(oneway(1, b"a"))
        await wait_all_tasks_blocked()
        served = served_of(pair)
        assert not served.cancel()
        served.client_gone()
        assert pair.stats.downstream_cx_destroy_remote == 0
        await pair.client.send(question(2, b"b"))
        await wait_all_tasks_blocked()
        served.client_gone()
        served.client_gone()
        await wait_all_tasks_blocked()
        assert pair.stats.downstream_cx_destroy_remote == 1
        assert gate.cancelled == [b"b"]
        assert list(served.by_id) == [1]


async def test_what_was_cut_off_with_its_connection_is_not_kept(autojump_clock: MockClock) -> None:
    async with proxy_pair(LINES, handler=Gate()) as pair:
        await pair.client.send(question(1, b"a") + question(2, b"b"))
        await wait_all_tasks_blocked()
        assert isinstance(pair.driver, Multiplexed)
        served = pair.driver.wire.served
        assert len(served) == 2
        pair.driver.close_soon()
        await pair.ended.wait()
        assert len(served) == 0
