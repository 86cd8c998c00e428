"""A shared connection that stands still with streams in flight, and goes on as it was, or leaves them on a link."""

from __future__ import annotations

import resource

import pytest
import trio
from h2.settings import SettingCodes
from trio.testing import wait_all_tasks_blocked

from tests.connection.kit import Fed
from tests.connection.shared.moves import Script, http2, moves, plain, taken
from tests.transport.ends import PATIENCE, reset
from xproxy.codecs.http2.wire import CONTINUATION, END_HEADERS, END_STREAM, HEADERS, frame
from xproxy.connection.standing import RelayedStream, Standing
from xproxy.model.frames import GoAway, Head, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import KIB
from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.testing.fakes import LINES


async def test_what_is_known_of_each_stream_goes_along() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        await peer.ask("/a")
        await peer.ask("/b", "POST", b"x", ends=False)
        await peer.ask("/c", "POST", b"x", ends=False)
        for path in ("/a", "/b", "/c"):
            await script.asked(path)
        script.answer("/c", Fed())
        await peer.until(lambda: 5 in peer.messages and peer.messages[5].fields)
        await scene.stands(Standing.RELAY)
        moment = scene.driver.freeze()
        assert moment.relayed == (
            RelayedStream(id=1, complete=True, begun=False),
            RelayedStream(id=3, complete=False, begun=False),
            RelayedStream(id=5, complete=False, begun=True),
        )
        assert moment.link is not None
        assert scene.driver.standing is Standing.NOT_NOW
        scene.driver.thaw()
        await scene.stands(Standing.RELAY)


async def test_a_protocol_that_has_no_words_for_it_stays_busy() -> None:
    script = Script()
    script.name_of = lambda request: request.head.method  # type: ignore[method-assign]
    async with moves(LINES, script) as scene:
        await scene.raw.send_all(b"~q 1 s m 0 -\n")
        await script.asked("m")
        await wait_all_tasks_blocked(0.01)
        assert scene.driver.standing is Standing.BUSY


async def test_one_with_an_upstream_of_its_own_stays_busy() -> None:
    class Bound:
        def close_soon(self) -> None: ...

    script = Script()
    async with http2(script) as (scene, peer):
        await peer.ask("/a")
        request = await script.asked("/a")
        await scene.stands(Standing.RELAY)
        assert request.connection.downstream is not None
        request.connection.downstream.bind("key", Bound())
        assert scene.driver.standing is Standing.BUSY


@pytest.mark.parametrize("kind", ["polled-tcp", "tls-resumed"])
@pytest.mark.parametrize("taken_over", [False, True])
async def test_what_is_said_while_it_stands_still_is_said_in_any_case(
    taken_over: bool, kind: str
) -> None:
    script = Script()
    async with http2(script, kind=kind) as (scene, peer):
        down = Fed()
        await peer.ask("/head", "POST", b"up", ends=False)
        await peer.ask("/end")
        await peer.ask("/reset")
        requests = [await script.asked(path) for path in ("/head", "/end", "/reset")]
        script.answer("/end", down)
        script.answer("/reset", broken := Fed())
        down.feed(b"begun")
        broken.feed(b"begun")
        await peer.until(lambda: all(peer.messages[i].body for i in (3, 5) if i in peer.messages))
        await peer.until(lambda: {3, 5} <= peer.messages.keys())
        await scene.stands(Standing.RELAY)
        moment = scene.driver.freeze()
        # Credit, an answer, an end, a reset: all while nobody knows where they will go.
        assert await taken(requests[0].body) == b"up"
        script.answer("/head", b"answer")
        down.feed(Trailers(3, Headers((("x-t", "1"),))))
        broken.end(RuntimeError("a body that fails"))
        await wait_all_tasks_blocked(0.01)
        if taken_over:
            scene.take(moment)
        else:
            scene.driver.thaw()
        assert (await peer.whole(1)).body == b"answer"
        assert (await peer.whole(3)).trailers == [("x-t", "1")]
        await peer.until(lambda: peer.messages[5].reset is not None)
        if taken_over:
            await scene.over(scene.drivers[0])
        assert scene.driver.streams == 0


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_client_that_goes_while_it_stands_still_is_seen_to_be_gone(
    how: str, taken_over: bool
) -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        await peer.ask("/a")
        await script.asked("/a")
        await scene.stands(Standing.RELAY)
        moment = scene.driver.freeze()
        if how == "fin":
            await peer.stream.aclose()
        else:
            reset(peer.stream)
        await wait_all_tasks_blocked(0.01)
        assert not script.cancelled
        if taken_over:
            scene.take(moment)
        else:
            scene.driver.thaw()
        for served in scene.drivers:
            await scene.over(served)
        assert script.cancelled == ["/a"]


@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_goodbye_asked_for_while_it_stands_still_is_said(taken_over: bool) -> None:
    script = Script()
    async with plain(script, linger=0.05) as (scene, client):
        await client.ask(1, "/a")
        request = await script.asked("/a")
        await scene.stands(Standing.RELAY)
        moment = scene.driver.freeze()
        assert request.connection.downstream is not None
        request.connection.downstream.drain()
        await wait_all_tasks_blocked(0.01)
        if taken_over:
            scene.take(moment)
        else:
            scene.driver.thaw()
        await client.until(GoAway)
        script.answer("/a", b"the last")
        assert (await client.until(Head, 1)).data == b"the last"
        for served in scene.drivers:
            await scene.over(served)


async def test_one_that_ends_while_it_stands_still_leaves_nothing_open() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        await peer.ask("/a")
        await script.asked("/a")
        await scene.stands(Standing.RELAY)
        moment = scene.driver.freeze()
        scene.driver.close_soon()
        await scene.over(scene.now)
        scene.driver.thaw()
        assert moment.link is not None
        assert moment.link.fileno() == -1
        assert moment.sock is not None
        assert moment.sock.fileno() == -1


async def test_an_answer_that_cannot_be_said_to_the_client_is_an_error_there() -> None:
    bad = ResponseHead(status=Status.OK, native_status=200, headers=Headers((("x", "a\nb"),)))
    script = Script()
    async with http2(script) as (scene, peer):
        for path in ("/a", "/b"):
            await peer.ask(path)
            await script.asked(path)
        old = await scene.move()
        script.answer("/a", b"", bad)
        assert (await peer.whole(1))[":status"] == "500"
        script.answer("/b", Fed(), bad)
        assert (await peer.whole(3))[":status"] == "500"
        await scene.over(old)


async def test_an_outbox_that_is_full_goes_along() -> None:
    script = Script()
    # Nobody reads, and one who would read on for room has to wait for it, too.
    async with http2(script, max_outbox_bytes=256 * KIB) as (scene, peer):
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        peer.h2.increment_flow_control_window(1 << 20)
        body = bytes(range(256)) * 3000
        one, two = await peer.ask("/a"), await peer.ask("/b")
        await script.asked("/a")
        await script.asked("/b")
        script.answer("/a", body)
        with trio.fail_after(PATIENCE):
            while not scene.driver.wire.outbox.full:
                await trio.lowlevel.checkpoint()
            peer.h2.ping(bytes(8))
            await peer.flush()
            while not scene.driver.wire.read_disabled:
                await trio.lowlevel.checkpoint()
        assert scene.driver.standing is Standing.RELAY
        scene.take(scene.driver.freeze())
        assert (await peer.whole(one)).body == body
        script.answer("/b", body)
        assert (await peer.whole(two)).body == body
        await scene.over(scene.drivers[0])


@pytest.mark.parametrize("cut", [3, 12, 19, 25])
async def test_a_head_that_comes_in_parts_is_read_on(cut: int) -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one = await peer.ask("/a", "POST", b"", ends=False)
        await script.asked("/a")
        fields = {":method": "GET", ":scheme": "http", ":path": "/b", ":authority": "a"}
        peer.h2.send_headers(3, list(fields.items()), end_stream=True)
        block = peer.h2.data_to_send()[9:]
        data = frame(HEADERS, END_STREAM, 3, block[:3]) + frame(
            CONTINUATION, END_HEADERS, 3, block[3:]
        )
        # Amid the head of a frame, amid a block, and between a block and its continuation.
        await peer.stream.send_all(data[:cut])
        await wait_all_tasks_blocked(0.01)
        old = await scene.move()
        await peer.stream.send_all(data[cut:])
        await script.asked("/b")
        script.answer("/b", b"b")
        script.answer("/a", b"a")
        assert (await peer.whole(3)).body == b"b"
        assert (await peer.whole(one)).body == b"a"
        await scene.over(old)


async def test_who_seeks_it_is_told_when_it_can_move_and_when_it_is_idle() -> None:
    script = Script()
    told: list[Standing] = []
    async with http2(script) as (scene, peer):
        driver = scene.driver

        def found() -> bool:
            told.append(driver.standing)
            return False

        async def see(*wanted: Standing) -> None:
            with trio.fail_after(PATIENCE):
                while told != list(wanted):
                    assert len(told) <= len(wanted), told
                    await trio.sleep(0.001)

        one, two = await peer.ask("/a"), await peer.ask("/b")
        await script.asked("/a")
        await script.asked("/b")
        driver.seek(found)
        await see(Standing.RELAY)
        script.answer("/a", b"a")
        await peer.whole(one)
        await wait_all_tasks_blocked(0.01)
        await see(Standing.RELAY)  # it is in flight still
        script.answer("/b", b"b")
        await peer.whole(two)
        await see(Standing.RELAY, Standing.IDLE)
        driver.seek(None)
        three = await peer.ask("/a")
        await peer.whole(three)
        await wait_all_tasks_blocked(0.01)
        assert told == [Standing.RELAY, Standing.IDLE]


async def test_one_that_is_found_may_be_frozen_at_once_and_ends_when_it_has_left() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        await peer.ask("/a")
        await script.asked("/a")
        frozen = []

        def found() -> bool:
            frozen.append(scene.driver.freeze())
            return True

        scene.driver.seek(found)
        with trio.fail_after(PATIENCE):
            while not frozen:
                await trio.lowlevel.checkpoint()
        old = scene.take(frozen[0])
        script.answer("/a", b"a")
        assert (await peer.whole(1)).body == b"a"
        await scene.over(old)
        assert len(frozen) == 1


@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_reset_while_it_stands_still_reaches_its_worker(taken_over: bool) -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one, two = await peer.ask("/a"), await peer.ask("/b")
        await script.asked("/a")
        await script.asked("/b")
        await scene.stands(Standing.RELAY)
        moment = scene.driver.freeze()
        peer.h2.reset_stream(one, 8)
        await peer.flush()
        await wait_all_tasks_blocked(0.01)
        assert not script.cancelled
        if taken_over:
            scene.take(moment)
        else:
            scene.driver.thaw()
        with trio.fail_after(PATIENCE):
            while script.cancelled != ["/a"]:
                await trio.lowlevel.checkpoint()
        script.answer("/b", b"b")
        assert (await peer.whole(two)).body == b"b"


async def test_windows_that_are_shut_both_ways_open_after_a_move() -> None:
    script = Script()
    async with http2(script, reads=False) as (scene, peer):
        one = await peer.ask("/a", "POST", b"", ends=False)
        request = await script.asked("/a")
        down = Fed()
        script.answer("/a", down)
        for _ in range(12):
            down.feed(bytes(10_000))
        await peer.until(lambda: one in peer.messages, "its head, and settings before it")
        sent = 0
        # Nothing is taken on either side, until both have filled their windows.
        while peer.h2.local_flow_control_window(one):
            piece = bytes(min(16_384, peer.h2.local_flow_control_window(one)))
            peer.h2.send_data(one, piece)
            await peer.flush()
            sent += len(piece)
        await peer.until(lambda: one in peer.messages and len(peer.messages[one].body) == 65535)
        await scene.move()
        await wait_all_tasks_blocked(0.02)
        assert not peer.h2.local_flow_control_window(one)
        await scene.move()
        took = 0
        while took < sent:
            came = await taken(request.body)
            assert isinstance(came, bytes)
            took += len(came)
        await peer.until(lambda: peer.h2.local_flow_control_window(one) > 0, "a window")
        peer.h2.increment_flow_control_window(1 << 20)
        peer.h2.increment_flow_control_window(1 << 20, one)
        peer.h2.send_data(one, b"last", end_stream=True)
        await peer.flush()
        assert await taken(request.body) == b"last"
        down.end()
        assert len((await peer.whole(one)).body) == 120_000


async def test_a_call_that_fails_is_told_its_status_after_a_move() -> None:
    script = Script()
    call = (("content-type", "application/grpc"), ("te", "trailers"))
    async with http2(script) as (scene, peer):
        one = await peer.ask("/p.S/M", "POST", bytes(5), call)
        await script.asked("/p.S/M")
        await scene.move()
        head = ResponseHead(status=Status.NOT_FOUND, extra=Local(detail="no such thing"))
        script.answer("/p.S/M", b"", head)
        message = await peer.whole(one)
        assert message["grpc-status"] == "5"
        assert message["grpc-message"] == "no such thing"
        assert message[":status"] == "200"
        assert message.ended


async def test_a_reply_made_here_has_its_text_after_a_move() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one = await peer.ask("/a")
        await script.asked("/a")
        await scene.move()
        script.answer("/a", b"", ResponseHead(status=Status.NOT_FOUND, extra=Local(detail="gone")))
        message = await peer.whole(one)
        assert message[":status"] == "404"
        assert b"gone" in message.body
        assert message["content-length"] == str(len(message.body))


async def test_a_tunnel_goes_on_in_either_half() -> None:
    script = Script()
    script.name_of = lambda request: request.head.method  # type: ignore[method-assign]
    async with http2(script) as (scene, peer):
        one = peer.h2.get_next_available_stream_id()
        peer.h2.send_headers(one, [(":method", "CONNECT"), (":authority", "a:1")])
        await peer.flush()
        request = await script.asked("CONNECT")
        down = Fed()
        script.answer("CONNECT", down)
        down.feed(b"hello")
        await peer.until(lambda: one in peer.messages and peer.messages[one].body == b"hello")
        first = await scene.move()
        peer.h2.send_data(one, b"up", end_stream=True)
        await peer.flush()
        assert await taken(request.body) == b"up"
        with pytest.raises(trio.EndOfChannel):
            await taken(request.body)
        await scene.move()
        down.feed(b" again")
        down.end()
        assert (await peer.whole(one)).body == b"hello again"
        await scene.over(first)
        assert scene.driver.streams == 0


async def test_one_for_whose_link_there_is_no_room_goes_on() -> None:
    script = Script()
    async with http2(script) as (scene, peer):
        one = await peer.ask("/a")
        await script.asked("/a")
        await scene.stands(Standing.RELAY)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                scene.driver.freeze()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        script.answer("/a", b"a")
        assert (await peer.whole(one)).body == b"a"
        await scene.move()
