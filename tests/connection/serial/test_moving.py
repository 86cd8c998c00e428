"""A serial connection that is found between two requests, and stands still there."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.connection.scene import GET, Giver, served
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.standing import Standing

SOCKETS = pytest.mark.parametrize("kind", ["polled-tcp", "tls-resumed"])


@SOCKETS
@pytest.mark.parametrize("stays", [True, False])
async def test_a_client_that_pipelines_without_a_pause_moves_between_two_requests(
    kind: str, stays: bool
) -> None:
    async with served(HTTP1, kind) as scene:
        giver = Giver(scene, after=5)
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await scene.peer.send_all(b"".join(GET % number for number in range(1, 31)))
        with trio.fail_after(5):
            await giver.found.wait()
        served_before = scene.handler.count
        assert served_before == 5
        assert scene.driver.standing is Standing.NOT_NOW
        await wait_all_tasks_blocked(0.01)
        assert scene.handler.count == served_before, "a request began on a frozen connection"
        moment = giver.moment
        assert moment is not None
        assert b"GET /30 " in moment.parts.codec
        if stays:
            scene.driver.thaw()
        else:
            await scene.move(moment)
        for number in range(1, 31):
            await scene.expect(b"<%d>" % number)


async def test_who_does_not_want_it_lets_it_go_on_and_is_asked_until_nobody_asks() -> None:
    async with served(HTTP1) as scene:
        giver = Giver(scene)
        giver.willing = False
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await scene.peer.send_all(b"".join(GET % number for number in range(1, 4)))
        await scene.expect(b"<3>")
        await wait_all_tasks_blocked(0.01)
        asked = giver.asked
        assert asked >= 3
        scene.driver.seek(None)
        await scene.peer.send_all(GET % 4)
        await scene.expect(b"<4>")
        assert giver.asked == asked
        assert scene.driver.standing is Standing.IDLE


async def test_a_busy_one_is_found_when_its_stream_has_ended() -> None:
    async with served(HTTP1) as scene:
        scene.handler.open = trio.Event()
        await scene.peer.send_all(GET % 1)
        with trio.fail_after(5):
            while scene.driver.standing is not Standing.BUSY:
                await trio.lowlevel.checkpoint()
        giver = Giver(scene)
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await wait_all_tasks_blocked(0.01)
        assert not giver.asked
        scene.handler.open.set()
        with trio.fail_after(5):
            await giver.found.wait()
        assert giver.moment is not None
        await scene.expect(b"<1>")
        await scene.move(giver.moment)
        await scene.peer.send_all(GET % 2)
        await scene.expect(b"<2>")


async def test_one_that_is_drained_between_two_requests_serves_what_it_holds_and_ends() -> None:
    async with served(HTTP1, linger=0.05) as scene:
        giver = Giver(scene, after=1)
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await scene.peer.send_all(GET % 1 + GET % 2)
        with trio.fail_after(5):
            await giver.found.wait()
        scene.driver.drain()
        scene.driver.relieve()
        scene.driver.thaw()
        await scene.expect(b"<2>")
        with trio.fail_after(5):
            await scene.ended.wait()


async def test_one_that_stands_still_between_two_requests_can_be_cut_off() -> None:
    async with served(HTTP1) as scene:
        giver = Giver(scene, after=1)
        assert isinstance(scene.driver, SerialDownstream)
        scene.driver.seek(giver)
        await scene.peer.send_all(GET % 1 + GET % 2)
        with trio.fail_after(5):
            await giver.found.wait()
        scene.driver.shed()
        scene.driver.thaw()
        with trio.fail_after(5):
            await scene.ended.wait()
        assert scene.handler.count == 1


async def test_time_for_a_head_that_had_begun_goes_along_before_it_is_watched() -> None:
    async with served(HTTP1, head=10) as scene:
        driver = scene.driver
        assert isinstance(driver, SerialDownstream)
        driver._waited, driver._half_finished, driver._between = 4.0, True, True
        assert 5.9 < driver.freeze().left <= 6.0
        driver.thaw()
