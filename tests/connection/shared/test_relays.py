"""Streams that an older process serves, from end to end over real sockets."""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import Fed
from tests.connection.shared.moves import (
    Script,
    body_of,
    eventually,
    http2,
    moves,
    plain,
    taken,
)
from tests.transport.ends import PATIENCE
from xproxy.connection.standing import Standing
from xproxy.model.frames import GoAway, Head, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.registry import default_registry
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request
from xproxy.testing.subject import Subject


async def test_a_stream_in_flight_is_answered_after_a_move() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one = await peer.ask("/one")
        await script.asked("/one")
        old = await scene.move()
        two = await peer.ask("/two")
        await script.asked("/two")
        script.answer("/two")
        assert (await peer.whole(two)).body == b""
        assert not old.ended.is_set()
        script.answer("/one", b"the answer")
        assert (await peer.whole(one)).body == b"the answer"
        await scene.over(old)
        assert scene.driver.streams == 0
        assert scene.driver.standing is Standing.IDLE
        assert old.stats.downstream_rq_total == 1
        assert scene.now.stats.downstream_rq_total == 1


async def test_a_body_goes_on_in_both_directions() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        down = Fed()
        one = await peer.ask("/one", "POST", b"up 1 ", ends=False)
        request = await script.asked("/one")
        script.answer("/one", down)
        down.feed(b"down 1 ")
        assert await taken(request.body) == b"up 1 "
        for number in range(2, 5):
            old = await scene.move()
            peer.h2.send_data(one, b"up %d " % number, end_stream=number == 4)
            await peer.flush()
            assert await taken(request.body) == b"up %d " % number
            down.feed(b"down %d " % number)
            await peer.until(lambda n=number: b"down %d " % n in body_of(peer, one))
            assert len(scene.drivers) == number
            assert not old.ended.is_set() or number > 2
        down.feed(Trailers(one, Headers((("x-t", "1"),))))
        message = await peer.whole(one)
        assert message.body == b"down 1 down 2 down 3 down 4 "
        assert message.trailers == [("x-t", "1")]
        for served in scene.drivers[:-1]:
            await scene.over(served)
        assert scene.driver.streams == 0


async def test_one_that_is_not_taken_goes_on_as_it_was() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one = await peer.ask("/one", "POST", b"up", ends=False)
        request = await script.asked("/one")
        await scene.stands(Standing.RELAY)
        scene.driver.freeze()
        assert await taken(request.body) == b"up"
        script.answer("/one", b"early")
        await wait_all_tasks_blocked(0.01)
        scene.driver.thaw()
        assert (await peer.whole(one)).body == b"early"
        assert len(scene.drivers) == 1


class Named(Script):
    """The same for calls, which have their body for a name."""

    def name_of(self, request: Request) -> str:
        assert isinstance(request.body, BytesBody)
        return request.body.data.decode("latin-1")


@pytest.mark.parametrize("name", ["bolt", "dubbo", "thrift"])
async def test_calls_in_flight_are_answered_in_their_dialect_after_a_move(name: str) -> None:
    plugin = default_registry().codec(name)
    subject = Subject(plugin)
    client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    script = Named()
    async with moves(plugin, script) as scene:

        async def ask(number: int) -> None:
            data = b"<%d>" % number
            await scene.raw.send_all(client.send(Head(number, subject.request, data, True)))
            await script.asked(data.decode())

        answered: dict[int, bytes] = {}

        async def answers(*wanted: int) -> None:
            with trio.fail_after(PATIENCE):
                while not answered.keys() >= set(wanted):
                    for frame in client.receive(bytes(await scene.raw.receive_some())):
                        assert isinstance(frame, Head), frame
                        answered[frame.stream_id] = frame.data

        await ask(1)
        await ask(2)
        first = await scene.move()
        await ask(3)
        second = await scene.move()
        await ask(4)
        for number, size in ((3, 10), (4, 10), (1, 200_000), (2, 10)):
            script.answer(f"<{number}>", bytes((number,)) * size, subject.response)
        await answers(1, 2, 3, 4)
        assert answered == {
            number: bytes((number,)) * size
            for number, size in ((1, 200_000), (2, 10), (3, 10), (4, 10))
        }
        await scene.over(first)
        await scene.over(second)
        assert scene.driver.streams == 0


async def test_calls_with_one_sequence_id_are_answered_in_their_order_after_a_move() -> None:
    plugin = default_registry().codec("thrift")
    subject = Subject(plugin)
    script = Named()
    # Two that know nothing of each other, on one connection: their ids are the same.
    clients = [plugin.open(Role.CLIENT, DEFAULT_LIMITS) for _ in range(3)]
    async with moves(plugin, script) as scene:
        for number, client in enumerate(clients):
            name = b"<%d>" % number
            await scene.raw.send_all(client.send(Head(1, subject.request, name, True)))
            await script.asked(name.decode())
            await scene.move()
        for number in (2, 1, 0):
            await wait_all_tasks_blocked(0.01)
            script.answer(f"<{number}>", b"<%d>" % number, subject.response)
        got = b""
        with trio.fail_after(PATIENCE):
            while b"<2>" not in got:
                got += bytes(await scene.raw.receive_some())
        assert got.index(b"<0>") < got.index(b"<1>") < got.index(b"<2>")


async def test_a_long_message_moves_on_in_the_middle_while_its_client_reads_nothing() -> None:
    plugin = default_registry().codec("bolt")
    subject = Subject(plugin)
    client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    script = Named()
    async with moves(plugin, script, max_outbox_bytes=200_000) as scene:
        for number in (1, 2, 3):
            name = b"<%d>" % number
            await scene.raw.send_all(client.send(Head(number, subject.request, name, True)))
            await script.asked(name.decode())
        first = await scene.move()
        for number in (1, 2, 3):
            script.answer(f"<{number}>", bytes((number,)) * 900_000, subject.response)
        await wait_all_tasks_blocked(0.02)
        # The client's outbox is full, so is the link, and a worker waits: nothing is held without a bound.
        assert scene.driver.wire.outbox.full
        assert first.driver.streams
        for _ in range(3):
            await scene.move()
            await wait_all_tasks_blocked(0.02)
        got: dict[int, bytes] = {}
        with trio.fail_after(PATIENCE):
            while len(got) < 3:
                for frame in client.receive(bytes(await scene.raw.receive_some(1 << 16))):
                    assert isinstance(frame, Head)
                    got[frame.stream_id] = frame.data
        assert got == {number: bytes((number,)) * 900_000 for number in (1, 2, 3)}
        for served in scene.drivers[:-1]:
            await scene.over(served)
            assert served.driver.facts.share.held == 0


async def test_a_reset_of_either_side_reaches_the_other_one() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one, two = await peer.ask("/one"), await peer.ask("/two")
        await script.asked("/one")
        await script.asked("/two")
        down = Fed(b"some")
        script.answer("/two", down)
        old = await scene.move()
        peer.h2.reset_stream(one, 8)
        await peer.flush()
        await eventually(lambda: script.cancelled == ["/one"])
        assert scene.driver.streams == 1
        down.end(RuntimeError("a body that fails"))
        await peer.until(lambda: two in peer.messages and peer.messages[two].reset is not None)
        await scene.over(old)
        assert scene.driver.streams == 0


async def test_a_client_that_goes_takes_all_its_streams_with_it() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        for path in ("/one", "/two", "/three"):
            await peer.ask(path)
            await script.asked(path)
            await scene.move()
        await peer.stream.aclose()
        for served in scene.drivers:
            await scene.over(served)
        assert sorted(script.cancelled) == ["/one", "/three", "/two"]


async def test_a_goodbye_that_a_filter_asks_for_reaches_the_client() -> None:
    script = Script()
    async with plain(script, linger=0.05) as (scene, client):
        await client.ask(1, "/one")
        request = await script.asked("/one")
        await scene.move()
        await scene.move()
        assert request.connection.downstream is not None
        request.connection.downstream.drain()
        await client.until(GoAway)
        assert scene.driver.standing is Standing.NEVER
        script.answer("/one", b"the last")
        assert (await client.until(Head, 1)).data == b"the last"
        for served in scene.drivers:
            await scene.over(served)


async def test_a_link_that_is_lost_costs_its_own_streams_and_they_are_counted() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one, two = await peer.ask("/one"), await peer.ask("/two", "POST", b"x", ends=False)
        await script.asked("/one")
        await script.asked("/two")
        script.answer("/two", Fed(b"some"))
        await peer.until(lambda: body_of(peer, two) == b"some")
        first = await scene.move()
        three = await peer.ask("/three")
        await script.asked("/three")
        await scene.move()
        four = await peer.ask("/four")
        await script.asked("/four")
        # As if its process were killed: nothing is said any more.
        first.driver.wire.stream.abort()
        message = await peer.whole(one)
        assert message[":status"] == "503"
        await peer.until(lambda: peer.messages[two].reset is not None)
        assert scene.now.stats.downstream_rq_link_lost == {"http2": 2}
        assert scene.now.stats.downstream_rq_reset == 1
        script.answer("/three", b"three")
        script.answer("/four", b"four")
        assert (await peer.whole(three)).body == b"three"
        assert (await peer.whole(four)).body == b"four"
        assert scene.now.stats.downstream_rq_link_lost == {"http2": 2}


async def test_messages_of_a_lost_link_are_answered_with_an_error() -> None:
    plugin = default_registry().codec("bolt")
    subject = Subject(plugin)
    client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    script = Named()
    async with moves(plugin, script) as scene:
        await scene.raw.send_all(client.send(Head(1, subject.request, b"a", True)))
        await script.asked("a")
        old = await scene.move()
        old.driver.wire.stream.abort()
        (frame,) = client.receive(bytes(await scene.raw.receive_some()))
        assert isinstance(frame, Head)
        assert isinstance(frame.message, ResponseHead)
        assert frame.message.status is not Status.OK
        assert scene.now.stats.downstream_rq_link_lost == {"bolt": 1}
        assert scene.driver.streams == 0


@pytest.mark.parametrize("moved", range(4))
async def test_no_window_leaks_however_often_it_moves(moved: int) -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one = await peer.ask("/one", "POST", b"", ends=False)
        request = await script.asked("/one")
        size, took = 2_000_000, 0
        script.answer("/one", request.body)  # what comes goes back
        for number in range(10):
            body = bytes((number,)) * (size // 10)
            while body:
                await peer.until(lambda: peer.h2.local_flow_control_window(one) > 0, "a window")
                piece = body[: min(16_384, peer.h2.local_flow_control_window(one))]
                body = body[len(piece) :]
                peer.h2.send_data(one, piece)
                await peer.flush()
                took += len(piece)
            if number < moved:
                await scene.move()
        peer.h2.end_stream(one)
        await peer.flush()
        assert len((await peer.whole(one)).body) == took == size
        for served in scene.drivers[:-1]:
            await scene.over(served)


async def test_relayed_streams_count_among_those_that_there_may_be() -> None:
    plugin = default_registry().codec("bolt")
    subject = Subject(plugin)
    client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    script = Named()
    async with moves(plugin, script, max_streams=3) as scene:

        async def ask(name: bytes, number: int) -> None:
            await scene.raw.send_all(client.send(Head(number, subject.request, name, True)))

        await ask(b"a", 1)
        await ask(b"b", 2)
        await script.asked("a")
        await script.asked("b")
        await scene.move()
        await ask(b"c", 3)
        await script.asked("c")
        await ask(b"d", 4)
        await wait_all_tasks_blocked(0.01)
        assert "d" not in script.requests
        script.answer("a", b"", subject.response)
        await script.asked("d")


async def test_a_client_that_waits_for_a_relayed_answer_is_not_idle(mock_clock: MockClock) -> None:
    mock_clock.rate = 0.1  # a busy machine makes nothing late
    script = Script()
    async with http2(script, idle=8) as (scene, peer):
        one = await peer.ask("/one")
        await script.asked("/one")
        old = await scene.move()
        mock_clock.jump(10)
        await wait_all_tasks_blocked(0.01)
        assert not scene.now.ended.is_set()
        assert scene.now.stats.downstream_cx_idle_timeout == 0
        script.answer("/one", b"late")
        assert (await peer.whole(one)).body == b"late"
        await scene.over(old)
        await eventually(lambda: scene.driver.standing is Standing.IDLE)
        mock_clock.jump(10)
        await eventually(lambda: scene.now.stats.downstream_cx_idle_timeout == 1)


async def test_a_drain_waits_for_what_is_relayed(mock_clock: MockClock) -> None:
    mock_clock.rate = 0.1  # a busy machine makes nothing late
    script = Script()
    async with plain(script, linger=8) as (scene, client):
        await client.ask(1, "/one")
        await script.asked("/one")
        await scene.move()
        scene.driver.drain()
        await client.until(GoAway)
        mock_clock.jump(10)
        await wait_all_tasks_blocked(0.01)
        assert not scene.now.ended.is_set()
        script.answer("/one", b"late")
        assert (await client.until(Head, 1)).data == b"late"
        assert await client.stream.receive_some() == b""
        await client.stream.aclose()
        await scene.over(scene.now)


async def test_an_end_that_has_come_and_not_gone_moves_on() -> None:
    script = Script()
    async with http2(script, reads=False) as (scene, peer):
        one = await peer.ask("/one")
        await script.asked("/one")
        first = await scene.move()
        body = bytes(range(250)) * 500
        script.answer("/one", body)
        await peer.until(lambda: len(body_of(peer, one)) == 65535)
        # All of it is in the second process by now, or on its way: the first one has ended.
        await scene.over(first)
        for _ in range(3):
            await scene.move()
        peer.h2.increment_flow_control_window(1 << 20)
        peer.h2.increment_flow_control_window(1 << 20, one)
        assert (await peer.whole(one)).body == body
        assert scene.driver.streams == 0
        for served in scene.drivers[:-1]:
            await scene.over(served)
        assert not any(served.stats.downstream_rq_link_lost for served in scene.drivers)


@pytest.mark.parametrize("seed", range(12))
async def test_bodies_arrive_whole_however_it_moves(seed: int) -> None:
    chance = Random(seed)
    script = Script()
    wanted: dict[int, bytes] = {}
    async with http2(script) as (scene, peer):
        over = trio.Event()

        async def move_about() -> None:
            while not over.is_set():
                for _ in range(chance.randrange(25)):
                    await trio.lowlevel.checkpoint()
                await scene.stands(Standing.IDLE, Standing.RELAY)
                moment = scene.driver.freeze()
                for _ in range(chance.choice((0, 0, 3))):
                    await trio.lowlevel.checkpoint()
                if chance.random() < 0.3 or len(scene.drivers) > 30:
                    scene.driver.thaw()
                else:
                    scene.take(moment)

        scene.nursery.start_soon(move_about)
        for number in range(5):
            path = f"/{number}"
            body = chance.randbytes(chance.choice((10, 1000, 70_000, 300_000)))
            stream_id = await peer.ask(path, "POST", b"", ends=False)
            request = await script.asked(path)
            script.answer(path, request.body)
            while body:
                await peer.until(
                    lambda on=stream_id: peer.h2.local_flow_control_window(on) > 0, "a window"
                )
                most = min(
                    chance.randrange(1, 16_384), peer.h2.local_flow_control_window(stream_id)
                )
                piece, body = body[:most], body[most:]
                wanted[stream_id] = wanted.get(stream_id, b"") + piece
                peer.h2.send_data(stream_id, piece, end_stream=not body)
                await peer.flush()
        for stream_id, body in wanted.items():
            assert (await peer.whole(stream_id)).body == body
        await eventually(
            lambda: len(scene.drivers) > 1
        )  # at the latest now, where chance let it stay
        over.set()
        await eventually(lambda: not scene.driver.streams)
        for served in scene.drivers[:-1]:
            await scene.over(served)
            assert served.driver.facts.share.held == 0
        assert not any(served.stats.downstream_rq_link_lost for served in scene.drivers)
