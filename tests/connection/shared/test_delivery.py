"""What an older process says goes out to a client as far as that takes it, and waits where it does not."""

from __future__ import annotations

from trio.testing import wait_all_tasks_blocked

from tests.connection.kit import Fed
from tests.connection.shared.moves import Script, body_of, eventually, http2
from xproxy.codecs.relay.codec import WINDOW
from xproxy.model.headers import Headers
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status


async def test_an_interim_answer_reaches_the_client() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one = await peer.ask("/one")
        request = await script.asked("/one")
        await scene.move()
        early = ResponseHead(
            status=Status.OK, native_status=103, headers=Headers((("link", "</a>"),))
        )
        await request.stream.send_interim(early)
        script.answer("/one", b"body")
        message = await peer.whole(one)
        assert message.interim == [[(":status", "103"), ("link", "</a>")]]
        assert message.body == b"body"


async def test_a_stream_that_its_client_does_not_read_stops_no_other() -> None:
    script = Script()
    async with http2(script, reads=False) as (scene, peer):
        down = [Fed(), Fed()]
        ids = [await peer.ask(path) for path in ("/one", "/two")]
        for path, body in zip(("/one", "/two"), down, strict=True):
            await script.asked(path)
            script.answer(path, body)
        await scene.move()
        # The connection's window is wide, that of a stream is not.
        peer.h2.increment_flow_control_window(1 << 20)
        await peer.flush()
        for _ in range(40):
            down[0].feed(bytes(10_000))
        down[1].feed(b"here")
        await peer.until(lambda: body_of(peer, ids[1]) == b"here")
        await peer.until(lambda: len(body_of(peer, ids[0])) == 65535)
        await wait_all_tasks_blocked(0.05)
        # Of the rest no more is under way than two windows let through: the worker has to wait.
        assert down[0].left >= 40 - (65535 + WINDOW) // 10_000 - 2
        for number in range(1, 201):
            peer.h2.increment_flow_control_window(1, ids[0])
            await peer.flush()
            if number == 100:
                await scene.move()
        await peer.until(lambda: len(body_of(peer, ids[0])) == 65535 + 200)
        peer.h2.increment_flow_control_window(1 << 20, ids[0])
        await peer.flush()
        down[0].end()
        down[1].end()
        assert len((await peer.whole(ids[0])).body) == 400_000


async def test_streams_share_what_the_window_of_their_connection_lets_through() -> None:
    script = Script()
    async with http2(script, reads=False) as (scene, peer):
        down = [Fed(), Fed()]
        ids = [await peer.ask(path) for path in ("/one", "/two")]
        for path, body, stream_id in zip(("/one", "/two"), down, ids, strict=True):
            await script.asked(path)
            script.answer(path, body)
            peer.h2.increment_flow_control_window(1 << 20, stream_id)
        await scene.move()
        await peer.flush()
        for _ in range(40):
            for body in down:
                body.feed(bytes(10_000))
        for whole in range(65_535, 65_535 + 80_000, 10_000):
            await peer.until(lambda n=whole: sum(len(body_of(peer, one)) for one in ids) == n)
            await wait_all_tasks_blocked(0.01)  # both wait for more
            peer.h2.increment_flow_control_window(10_000)
            await peer.flush()
        gained = [len(body_of(peer, one)) for one in ids]
        assert min(gained) > 30_000, gained


async def test_a_client_that_takes_nothing_for_too_long_is_not_waited_for() -> None:
    script = Script()
    async with http2(script, reads=False, stream_idle=0.1) as (scene, peer):
        one = await peer.ask("/one")
        await script.asked("/one")
        first = await scene.move()
        script.answer("/one", bytes(100_000))
        await peer.until(lambda: len(body_of(peer, one)) == 65535)
        await scene.over(first)
        await peer.until(lambda: peer.messages[one].reset is not None)
        assert scene.driver.streams == 0
        assert scene.now.stats.downstream_rq_reset == 1


async def test_what_waits_for_a_client_is_counted_and_can_be_given_up() -> None:
    script = Script()
    async with http2(script, reads=False) as (scene, peer):
        one, two = await peer.ask("/one"), await peer.ask("/two")
        await script.asked("/one")
        await script.asked("/two")
        first = await scene.move()
        script.answer("/one", bytes(120_000))
        await peer.until(lambda: len(body_of(peer, one)) == 65535)
        await scene.over_streams(first, 1)
        share = scene.driver.facts.share
        assert share.held == 120_000 - 65_535
        await scene.move()
        await eventually(lambda: share.held == 0)
        share = scene.driver.facts.share
        await eventually(lambda: share.held == 120_000 - 65_535)
        scene.driver.relieve()
        await peer.until(lambda: peer.messages[one].reset is not None)
        assert share.held == 0
        script.answer("/two", b"two")
        peer.h2.increment_flow_control_window(1 << 20)
        assert (await peer.whole(two)).body == b"two"
