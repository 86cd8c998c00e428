"""Streams that an older process serves, from end to end over real sockets."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.connection.kit import Fed
from tests.connection.shared.moves import Script, http2, moves, taken
from tests.http2_peer import Http2Peer
from tests.transport.ends import PATIENCE
from xproxy.connection.standing import Standing
from xproxy.model.frames import Head, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.traits import Role
from xproxy.registry import default_registry
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request
from xproxy.testing.subject import Subject


def body_of(peer: Http2Peer, stream_id: int) -> bytes:
    message = peer.messages.get(stream_id)
    return b"" if message is None else message.body


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
