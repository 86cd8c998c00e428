"""A connection of HTTP/2 that is cut at every step of an exchange: its client reads what it would have without."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio

from tests.connection.kit import Fed
from tests.connection.shared.cuts import Cuts, cutting, take, thaw
from tests.connection.shared.moves import OK, Moves, http2, moves
from tests.http2_peer import Http2Peer, Message
from tests.transport.ends import PATIENCE
from xproxy.codecs.api import CodecPlugin
from xproxy.connection.standing import Moment
from xproxy.model.errors import UpstreamReset
from xproxy.model.frames import Head, Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.registry import default_registry
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing.subject import Subject

EARLY = ResponseHead(status=Status.OK, native_status=103, headers=Headers((("link", "</x>"),)))
DONE = Trailers(0, Headers((("x-done", "yes"),)))


class Echo(trio.abc.ReceiveChannel[bytes | Trailers]):
    """A request's body, doubled, with trailers."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._over = False

    async def receive(self) -> bytes | Trailers:
        if self._over:
            raise trio.EndOfChannel
        try:
            piece = await self._body.receive()
        except trio.EndOfChannel:
            self._over = True
            return DONE
        assert isinstance(piece, bytes)
        return bytes(byte for byte in piece for _ in range(2))  # however it was cut

    async def aclose(self) -> None:
        await self._body.aclose()


async def answer(request: Request) -> Response:
    """Answer in as many ways as there are."""
    path = request.head.path
    if path == "/whole":
        await request.stream.send_interim(EARLY)
        await trio.lowlevel.checkpoint()
        return Response(OK, BytesBody(b"whole"))
    if path == "/large":
        return Response(OK, BytesBody(bytes(range(250)) * 800))
    if path == "/broken":
        broken = Fed(b"some", failure=UpstreamReset("gone"))
        broken.end()
        return Response(OK, broken)
    if path == "/never":
        await trio.sleep_forever()
    return Response(OK, Echo(request.body))


async def talk(peer: Http2Peer) -> dict[str, Message]:
    """Say something of everything; return what came of it."""
    echo = await peer.ask("/echo", "POST", b"a" * 100, ends=False)
    never = await peer.ask("/never")
    whole = await peer.ask("/whole")
    peer.h2.send_data(echo, b"b" * 3000)
    await peer.flush()
    large = await peer.ask("/large")
    await peer.whole(whole)
    peer.h2.reset_stream(never, 8)
    peer.h2.send_data(echo, b"c", end_stream=True)
    broken = await peer.ask("/broken")
    await peer.whole(echo)
    await peer.until(lambda: broken in peer.messages and peer.messages[broken].reset is not None)
    await peer.whole(large)
    last = await peer.ask("/whole")
    await peer.whole(last)
    names = {"echo": echo, "whole": whole, "large": large, "broken": broken, "last": last}
    return {name: peer.messages[stream_id] for name, stream_id in names.items()}


async def exchange(
    steps: list[int],
    end: Callable[[Moves, Moment], None] = take,
    linger: int = 0,
    kind: str = "polled-tcp",
) -> tuple[dict[str, Message], Cuts]:
    """Let a client talk, with cuts; return what it heard."""
    async with http2(answer, kind=kind) as (scene, peer):
        with cutting(scene, steps, end, linger=linger) as cuts:
            heard = await talk(peer)
        for served in scene.drivers[:-1]:
            await scene.over(served)
        assert scene.driver.streams == 0
        assert not any(served.stats.downstream_rq_link_lost for served in scene.drivers)
        asked = sum(served.stats.downstream_rq_total for served in scene.drivers)
        assert asked == 6
        assert sum(served.stats.downstream_cx_protocol_error for served in scene.drivers) == 0
        return heard, cuts


async def test_without_a_cut_all_is_heard() -> None:
    heard, cuts = await exchange([])
    assert heard["echo"].body == b"a" * 200 + b"b" * 6000 + b"cc"
    assert heard["echo"].trailers == [("x-done", "yes")]
    assert heard["whole"].interim == [[(":status", "103"), ("link", "</x>")]]
    assert heard["large"].body == bytes(range(250)) * 800
    assert heard["broken"].body == b"some"
    assert heard["broken"].reset is not None
    assert cuts.made > 100


@pytest.mark.parametrize(
    ("end", "linger", "times", "apart"),
    [
        pytest.param(take, 0, 1, 0, id="taken"),
        pytest.param(take, 5, 1, 0, id="taken-late"),
        pytest.param(thaw, 0, 1, 0, id="refused"),
        pytest.param(thaw, 5, 1, 0, id="withdrawn-late"),
        pytest.param(take, 1, 2, 9, id="twice"),
        pytest.param(take, 1, 5, 11, id="five-times"),
    ],
)
async def test_a_cut_at_any_step_is_not_heard(
    end: Callable[[Moves, Moment], None], linger: int, times: int, apart: int
) -> None:
    wanted, whole = await exchange([])
    cut, step = 0, 1
    while step < whole.made:
        steps = [step + apart * number for number in range(times)]
        heard, cuts = await exchange(steps, end, linger)
        other = [name for name in wanted if heard[name] != wanted[name]]
        assert not other, f"cut at {steps}: {[_short(heard[name]) for name in other]}"
        cut += cuts.done
        step = max(cuts.next, step + min(times, 2))
    assert cut > 60


@pytest.mark.parametrize("end", [take, thaw])
async def test_a_cut_of_a_session_is_not_heard(end: Callable[[Moves, Moment], None]) -> None:
    wanted, whole = await exchange([], kind="tls-resumed")
    cut = 0
    for step in range(1, whole.made, 5):
        heard, cuts = await exchange([step, step + 20], end, 2, kind="tls-resumed")
        other = [name for name in wanted if heard[name] != wanted[name]]
        assert not other, f"cut at {step}: {[_short(heard[name]) for name in other]}"
        cut += cuts.done
    assert cut > 20


async def call(request: Request) -> Response:
    """Answer calls late, early and at length."""
    assert isinstance(request.body, BytesBody)
    data = request.body.data
    for _ in range(data[0]):
        await trio.lowlevel.checkpoint()
    return Response(ResponseHead(status=Status.OK), BytesBody(data * (1 + data[1] * 200)))


async def calls(
    plugin: CodecPlugin, subject: Subject, steps: list[int], end: Callable[[Moves, Moment], None]
) -> tuple[dict[int, bytes], Cuts]:
    """Let a client make calls, with cuts; return what it was answered."""
    client = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    answered: dict[int, bytes] = {}
    async with moves(plugin, call) as scene:
        with cutting(scene, steps, end, linger=1) as cuts:
            for number in range(1, 7):
                data = bytes((30 - 4 * number, number % 3)) + b"body" * 30
                said = client.send(Head(number, subject.request, data, True))
                await scene.raw.send_all(said[:7])
                await scene.raw.send_all(said[7:])
            with trio.fail_after(PATIENCE):
                while len(answered) < 6:
                    for frame in client.receive(bytes(await scene.raw.receive_some())):
                        assert isinstance(frame, Head)
                        assert frame.stream_id not in answered
                        answered[frame.stream_id] = frame.data
        for served in scene.drivers[:-1]:
            await scene.over(served)
        assert scene.driver.streams == 0
    return answered, cuts


@pytest.mark.parametrize("end", [take, thaw])
@pytest.mark.parametrize("name", ["bolt", "dubbo", "thrift"])
async def test_a_cut_amid_calls_is_not_heard(
    name: str, end: Callable[[Moves, Moment], None]
) -> None:
    plugin = default_registry().codec(name)
    subject = Subject(plugin)
    wanted, whole = await calls(plugin, subject, [], end)
    cut, step = 0, 1
    while step < whole.made:
        steps = [step, step + 15, step + 40]
        answered, cuts = await calls(plugin, subject, steps, end)
        assert answered == wanted, f"cut at {step}"
        cut += cuts.done
        # They differ in how calls are written; links are the same for all.
        step = cuts.next + (name != "bolt")
    assert cut > 50


def _short(message: Message) -> str:
    brief = attrs.evolve(message, body=message.body[:40])
    return f"{len(message.body)} bytes of {brief}"
