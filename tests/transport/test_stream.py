"""The contract of ``ByteStream``, on every implementation of it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.transport.ends import BOUNDED, KINDS, Peer, connected, reset
from xproxy.transport.stream import ByteStream, write_all

pytestmark = pytest.mark.parametrize("kind", KINDS)


async def read_exactly(stream: ByteStream, count: int) -> bytes:
    got = b""
    while len(got) < count:
        piece = await stream.read()
        assert piece, f"the end came after {len(got)} of {count} bytes"
        got += piece
    return got


async def receive_exactly(peer: Peer, count: int) -> bytes:
    got = bytearray()
    while len(got) < count:
        piece = await peer.receive_some(65536)
        assert piece, f"the end came after {len(got)} of {count} bytes"
        got += piece
    return bytes(got)


async def fill(stream: ByteStream) -> int:
    """Write until nothing more is taken, also not after a rest; return how much was.

    Whoever writes after it must begin with an ``x``: what was not taken is offered again.
    """
    written = 0
    while True:
        taken = stream.write_now(b"x" * 65536)
        written += taken
        assert written < 64 * 1024 * 1024, "the stream takes without bound"
        if not taken:
            await wait_all_tasks_blocked(0.01)
            if not stream.write_now(b"x"):
                return written
            written += 1


async def test_bytes_go_both_ways(kind: str) -> None:
    async with connected(kind) as (stream, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, b"question")
        assert await stream.read() == b"question"
        await write_all(stream, b"answer")
        assert await receive_exactly(peer, 6) == b"answer"


async def test_a_parked_read_wakes_for_each_piece(kind: str) -> None:
    got: list[bytes] = []

    async def reader(stream: ByteStream) -> None:
        while piece := await stream.read():
            got.append(piece)

    async with connected(kind) as (stream, peer), trio.open_nursery() as nursery:
        nursery.start_soon(reader, stream)
        for piece in (b"one", b"two", b"three"):
            await wait_all_tasks_blocked(0.001)
            await peer.send_all(piece)
        await wait_all_tasks_blocked(0.001)
        await peer.send_eof()
    assert got == [b"one", b"two", b"three"]


async def test_the_end_comes_after_the_data_and_stays(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        # Together, before anybody reads: one event tells of both.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, b"last words")
            await wait_all_tasks_blocked(0.001)
            if kind == "trio-lockstep":
                assert await stream.read() == b"last words"
        await peer.send_eof()
        await wait_all_tasks_blocked(0.001)
        if kind != "trio-lockstep":
            assert await stream.read() == b"last words"
        assert await stream.read() == b""
        assert await stream.read() == b""
        assert stream.hung_up


async def test_large_transfers_arrive_whole_both_ways_at_once(kind: str) -> None:
    down = bytes(range(256)) * 8192  # 2 MiB
    up = bytes(reversed(range(256))) * 8192
    async with connected(kind) as (stream, peer):
        results: list[bytes] = []

        async def read() -> None:
            results.append(await read_exactly(stream, len(down)))

        async def receive() -> None:
            assert await receive_exactly(peer, len(up)) == up

        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, down)
            nursery.start_soon(write_all, stream, up)
            nursery.start_soon(read)
            nursery.start_soon(receive)
        assert results == [down]


async def test_a_peer_that_takes_nothing_stops_the_writer(kind: str) -> None:
    if kind not in BOUNDED:
        return
    async with connected(kind) as (stream, peer):
        written = await fill(stream)
        done = False

        async def write_more() -> None:
            nonlocal done
            await write_all(stream, b"x, rest!")
            done = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_more)
            await wait_all_tasks_blocked(0.01)
            assert not done
            got = await receive_exactly(peer, written + 8)
        assert got == b"x" * written + b"x, rest!"


async def test_half_close_by_us(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        await write_all(stream, b"all I have")
        stream.shutdown_write()
        assert await receive_exactly(peer, 10) == b"all I have"
        assert await peer.receive_some(10) == b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, b"thank you")
            assert await stream.read() == b"thank you"
        with pytest.raises(trio.BrokenResourceError):
            stream.write_now(b"one thing more")


async def test_an_end_that_answers_ours_is_an_end_and_no_error(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        stream.half_close = True
        stream.shutdown_write()
        assert await peer.receive_some(10) == b""
        await peer.send_eof()
        await wait_all_tasks_blocked(0.001)
        assert await stream.read() == b""
        assert await stream.read() == b""


async def test_half_close_by_the_peer_leaves_the_other_direction(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        stream.half_close = True
        await peer.send_eof()
        assert await stream.read() == b""
        await write_all(stream, b"still here")
        assert await receive_exactly(peer, 10) == b"still here"


async def test_hang_up_cancels_the_watched_scope_while_nobody_reads(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        with trio.CancelScope() as scope:
            stream.watch(scope)
            await wait_all_tasks_blocked(0.001)
            await peer.send_eof()
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert stream.hung_up


async def test_watching_a_peer_that_is_gone_cancels_at_once(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        await peer.send_eof()
        await wait_all_tasks_blocked(0.001)
        scope = trio.CancelScope()
        stream.watch(scope)
        assert scope.cancel_called


async def test_nobody_is_cancelled_after_the_watch_ends(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        with trio.CancelScope() as scope:
            stream.watch(scope)
            stream.watch(None)
            await peer.send_eof()
            await wait_all_tasks_blocked(0.001)
        assert not scope.cancel_called


async def test_a_half_closed_peer_is_not_gone_where_the_protocol_says_so(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        stream.half_close = True
        with trio.CancelScope() as scope:
            stream.watch(scope)
            await peer.send_eof()
            await wait_all_tasks_blocked(0.001)
            assert stream.hung_up
            stream.watch(None)
            stream.watch(scope)
        assert not scope.cancel_called


async def test_close_wakes_a_parked_reader(kind: str) -> None:
    async with connected(kind) as (stream, _), trio.open_nursery() as nursery:

        async def reader() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.read()

        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        stream.close()


async def test_close_wakes_a_parked_writer(kind: str) -> None:
    if kind not in BOUNDED:
        return
    async with connected(kind) as (stream, peer), trio.open_nursery() as nursery:
        await fill(stream)

        async def writer() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.wait_writable()

        nursery.start_soon(writer)
        await wait_all_tasks_blocked()
        stream.close()
        await trio.aclose_forcefully(peer)


async def test_a_closed_stream_says_so(kind: str) -> None:
    async with connected(kind) as (stream, _):
        stream.close()
        stream.close()
        stream.abort()
        stream.shutdown_write()
        stream.watch(None)
        with pytest.raises(trio.ClosedResourceError):
            await stream.read()
        with pytest.raises(trio.ClosedResourceError):
            stream.write_now(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await stream.wait_writable()


async def test_what_was_written_before_close_arrives(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        assert stream.write_now(b"farewell") == 8
        stream.close()
        assert await receive_exactly(peer, 8) == b"farewell"
        assert await peer.receive_some(1) == b""


async def test_abort_drops_what_the_peer_has_not_taken(kind: str) -> None:
    if kind == "polled-unix":
        return  # has no such thing as a reset
    async with connected(kind) as (stream, peer):
        await fill(stream) if kind in BOUNDED else stream.write_now(b"x")
        stream.abort()
        stream.abort()
        size = 0
        try:
            while piece := await peer.receive_some(65536):
                size += len(piece)
        except trio.BrokenResourceError:
            return
        # A Trio stream has no reset; the peer sees an end, and less than was written.
        assert kind.startswith("trio"), f"a clean end after {size} bytes"


async def test_a_cancelled_read_loses_nothing(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.read)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, b"later")
            assert await stream.read() == b"later"


async def test_a_read_cancelled_just_as_bytes_come_loses_nothing(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        got = b""

        async def reader() -> None:
            nonlocal got
            got = await stream.read()

        async with trio.open_nursery() as outer:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader)
                await wait_all_tasks_blocked()
                outer.start_soon(peer.send_all, b"now")
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert (got or await stream.read()) == b"now"


async def test_a_cancelled_wait_for_room_can_be_repeated(kind: str) -> None:
    if kind not in BOUNDED:
        return
    async with connected(kind) as (stream, peer):
        written = await fill(stream)
        with trio.move_on_after(0):
            await stream.wait_writable()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_all, stream, b"xend")
            await wait_all_tasks_blocked(0.001)
            assert (await receive_exactly(peer, written + 4)).endswith(b"xxend")


async def test_writing_to_a_peer_that_is_gone_breaks(kind: str) -> None:
    async with connected(kind) as (stream, peer):
        await trio.aclose_forcefully(peer)
        await wait_all_tasks_blocked(0.001)

        async def write_often() -> None:
            for _ in range(1000):  # the first may be lost without a word
                stream.write_now(b"x" * 65536)
                await wait_all_tasks_blocked(0.001)

        with pytest.raises(trio.BrokenResourceError):
            await write_often()


async def test_a_writer_parked_while_the_peer_goes_wakes_and_breaks(kind: str) -> None:
    if kind not in BOUNDED:
        return
    async with connected(kind) as (stream, peer), trio.open_nursery() as nursery:
        await fill(stream)

        async def writer() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await write_all(stream, b"y" * 1_000_000)

        nursery.start_soon(writer)
        await wait_all_tasks_blocked(0.001)
        await trio.aclose_forcefully(peer)


async def test_a_reset_wakes_a_parked_reader(kind: str) -> None:
    if not kind.endswith("tcp"):
        return
    async with connected(kind) as (stream, peer), trio.open_nursery() as nursery:

        async def reader() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.read()

        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        reset(peer)


async def test_a_reset_cancels_the_watched_scope_also_where_half_close_is_allowed(
    kind: str,
) -> None:
    if not kind.endswith("tcp"):
        return
    async with connected(kind) as (stream, peer):
        stream.half_close = True
        with trio.CancelScope() as scope:
            stream.watch(scope)
            reset(peer)
            await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_reading_without_waiting(kind: str) -> None:
    async with connected(kind) as (stream, peer), trio.open_nursery() as nursery:
        assert stream.read_now() is None
        nursery.start_soon(peer.send_all, b"x")
        await wait_all_tasks_blocked(0.001)
        found = [stream.read_now(), stream.read_now()]
        assert found == [b"x", None]
        await peer.send_eof()
        await wait_all_tasks_blocked(0.001)
        assert stream.read_now() == b""
        assert await stream.read() == b""
        stream.close()
        with pytest.raises(trio.ClosedResourceError):
            stream.read_now()


async def test_reading_without_waiting_what_broke(kind: str) -> None:
    if not kind.endswith("tcp"):
        return
    async with connected(kind) as (stream, peer):
        reset(peer)
        await wait_all_tasks_blocked(0.001)
        with pytest.raises(trio.BrokenResourceError):
            stream.read_now()


async def test_pending_tells_that_something_is_there(kind: str) -> None:
    async with connected(kind) as (stream, peer), trio.open_nursery() as nursery:
        seen = [stream.pending]
        nursery.start_soon(peer.send_all, b"x")
        await wait_all_tasks_blocked(0.001)
        seen.append(stream.pending)
        assert await stream.read() == b"x"
        await wait_all_tasks_blocked(0.001)
        seen.append(stream.pending)
        assert seen == [False, True, False]
