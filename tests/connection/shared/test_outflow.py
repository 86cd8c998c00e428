"""Bodies leaving in pieces: within the window, within the outbox, to the end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import Fed
from tests.connection.shared.wires import Sink, shared_wire
from xproxy.connection.shared.outbox import Outbox
from xproxy.connection.shared.outflow import fits, send_body
from xproxy.model.errors import UpstreamReset
from xproxy.model.frames import Data, Frame, Trailers
from xproxy.model.headers import NO_HEADERS
from xproxy.stream.body import Body, BytesBody


class Windows:
    """A codec with one window for each stream, which speaks plainly."""

    def __init__(self, **windows: int) -> None:
        self.windows = {int(name[1:]): size for name, size in windows.items()}

    def receive(self, data: bytes | None) -> tuple[Frame, ...]:
        raise NotImplementedError

    def send(self, frame: Frame) -> bytes:
        if isinstance(frame, Trailers):
            return b"<trailers>"
        assert isinstance(frame, Data)
        self.windows[frame.stream_id] -= len(frame.data)
        assert self.windows[frame.stream_id] >= 0
        return frame.data + (b"." if frame.end else b"")

    def consumed(self, stream_id: int, count: int) -> bytes:
        raise NotImplementedError

    def sendable(self, stream_id: int) -> int:
        return self.windows[stream_id]


class Flow:
    def __init__(self, codec: Windows, *, limit: int = 1000, room: int = 10**9) -> None:
        self.codec = codec
        self.sink = Sink(room)
        self.outbox = Outbox(limit, 60)
        self.wire = shared_wire(codec, self.sink, outbox=self.outbox)
        self.noted: list[int] = []

    async def run(self) -> None:
        await self.outbox.run(self.wire)

    async def send(self, stream_id: int, body: Body) -> None:
        await send_body(self.wire, stream_id, body, self.noted.append)


async def test_a_body_goes_out_piece_by_piece_and_ends(autojump_clock: MockClock) -> None:
    flow = Flow(Windows(s1=1000))
    body = Fed(b"ab", b"", b"c")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow.run)
        nursery.start_soon(flow.send, 1, body)
        await wait_all_tasks_blocked()
        assert flow.sink.data == b"abc"
        body.end()
        await wait_all_tasks_blocked()
        assert flow.sink.data == b"abc."
        assert sum(flow.noted) == 3
        flow.outbox.finish()


async def test_trailers_are_the_end(autojump_clock: MockClock) -> None:
    flow = Flow(Windows(s1=1000))
    await flow.send(1, BytesBody(b"ab", Trailers(1, NO_HEADERS)))
    flow.outbox.finish()
    await flow.run()
    assert flow.sink.data == b"ab<trailers>"


async def test_no_more_than_the_window_goes_out(autojump_clock: MockClock) -> None:
    flow = Flow(Windows(s1=3, s2=100))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow.run)
        nursery.start_soon(flow.send, 1, BytesBody(b"abcdefgh"))
        await wait_all_tasks_blocked()
        assert flow.sink.data == b"abc"
        await flow.send(2, BytesBody(b"another"))  # has a window of its own
        await wait_all_tasks_blocked()
        assert flow.sink.data == b"abcanother."
        for credit, expected in ((0, b""), (2, b"de"), (3, b"fgh.")):
            flow.codec.windows[1] += credit
            before = len(flow.sink.data)
            flow.wire.credit.unpark_all()
            await wait_all_tasks_blocked()
            assert flow.sink.data[before:] == expected
        flow.outbox.finish()


async def test_a_full_outbox_stops_the_body(autojump_clock: MockClock) -> None:
    flow = Flow(Windows(s1=10**6), limit=10, room=0)
    body = Fed(*[b"0123456789"] * 50)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow.run)
        nursery.start_soon(flow.send, 1, body)
        await wait_all_tasks_blocked()
        assert flow.outbox.size <= 20
        flow.sink.give(10**6)
        body.end()
        await wait_all_tasks_blocked()
        assert len(flow.sink.data) == 501
        flow.outbox.finish()


async def test_what_the_body_raises_comes_out(autojump_clock: MockClock) -> None:
    flow = Flow(Windows(s1=1000))
    with pytest.raises(UpstreamReset):
        await flow.send(1, Fed(b"ab", failure=UpstreamReset("gone")).ended())
    flow.outbox.finish()
    await flow.run()
    assert flow.sink.data == b"ab"  # and no end


@pytest.mark.parametrize("where", ["body", "window", "room"])
async def test_cancelled_anywhere_it_leaves_the_message_without_an_end(
    where: str, autojump_clock: MockClock
) -> None:
    flow = Flow(
        Windows(s1=1 if where == "window" else 1000), limit=2, room=0 if where == "room" else 1000
    )
    body = Fed(b"ab") if where == "body" else Fed(b"ab", b"cd").ended()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flow.run)
        with trio.move_on_after(1) as scope:
            await flow.send(1, body)
        assert scope.cancelled_caught
        flow.sink.give(1000)
        flow.outbox.finish()
    assert b"." not in flow.sink.data


def test_only_a_whole_body_within_the_window_fits() -> None:
    wire = Flow(Windows(s1=3, s2=0)).wire
    assert fits(wire, 1, BytesBody(b"abc"))
    assert not fits(wire, 1, BytesBody(b"abcd"))
    assert fits(wire, 2, BytesBody())
    assert fits(wire, 1, BytesBody(b"", Trailers(1, NO_HEADERS)))
    assert not fits(wire, 1, Fed(b"a"))
