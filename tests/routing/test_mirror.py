"""Mirroring: on real sockets for web requests and calls, and by logic what bounds it."""

from __future__ import annotations

import math

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.filters.conftest import FakeBody
from tests.live import PATIENCE, answering, eventually, read_head, running, upstream
from tests.routing.test_router import Bench, bench, web
from tests.upstream.test_keyed_requests import call, calls, get
from xproxy.config.routing import MILLION, MirrorConfig
from xproxy.model.errors import UpstreamReset
from xproxy.model.limits import Duration, Size
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Traits
from xproxy.routing.beside import Beside
from xproxy.routing.mirror import CopiedBody, Mirror, Mirroring, OwnStream
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response, local_response

__all__ = ["bench"]


def mirrored(port: int, shadow: int) -> str:
    return f"""
listeners: [{{name: edge, address: "127.0.0.1:0", routes: main}}]
routes: {{main: [{{name: r, cluster: web, mirrors: [{{cluster: shadow}}]}}]}}
clusters:
  web: {{endpoints: ["127.0.0.1:{port}"]}}
  shadow: {{endpoints: ["127.0.0.1:{shadow}"]}}
"""


async def test_a_web_request_is_copied_to_the_shadow_host_and_nothing_waits_for_it() -> None:
    async with upstream() as main, upstream() as shadow, trio.open_nursery() as nursery:
        async with running(mirrored(main.port, shadow.port)) as live:
            nursery.start_soon(main.serve, answering(b"1"))
            _, body = await get(await live.connect())  # the copy is not answered yet
            assert body == b"1"
            with trio.fail_after(PATIENCE):
                head = await read_head(await shadow.accept())
            assert b"host: a-shadow\r\n" in head.lower()
        nursery.cancel_scope.cancel()


async def test_a_call_is_copied() -> None:
    async with upstream() as main, upstream() as shadow, trio.open_nursery() as nursery:
        async with running(mirrored(main.port, shadow.port)) as live:
            nursery.start_soon(main.serve, calls(b"1"))
            nursery.start_soon(shadow.serve, calls(b"2"))
            assert await call(await live.connect(), 1, "t") == b"1"
            stats = live.cluster("shadow").stats
            await eventually(lambda: stats.statuses.get(Status.OK) == 1, "the copy is answered")
        nursery.cancel_scope.cancel()


@attrs.define
class Shadow:
    """The cluster that copies go to."""

    seen: list[Request] = attrs.field(factory=list)
    go_on: trio.Event = attrs.field(factory=trio.Event)
    error: Exception | None = None

    async def __call__(self, request: Request) -> Response:
        self.seen.append(request)
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return local_response(ResponseHead(status=Status.OK))


async def answered(_request: Request) -> Response:
    return local_response(ResponseHead(status=Status.OK))


async def test_copies_in_flight_are_bounded_and_given_up_in_time(
    bench: Bench,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    beside, shadow = Beside("main"), Shadow()
    config = MirrorConfig(cluster="s", max_concurrent=2, timeout=Duration(3.0))
    mirroring = Mirroring(Mirror(config, "r", beside), shadow)
    await nursery.start(beside.run)
    for _ in range(3):
        await mirroring(bench.request(web()), answered)
    assert beside.stats.mirror_active == 2
    assert beside.stats.mirror_overflow == 1
    await trio.sleep(4)
    assert (beside.stats.mirror_timeout, beside.stats.mirror_active) == (2, 0)
    assert beside.stats.mirror_total == {"r": 2}
    copy = shadow.seen[0]
    assert copy.stream.deadline < math.inf
    assert bench.stream.deadlines == []  # the stream's own is nobody else's
    assert copy.record.cluster == "s"
    assert copy.connection.downstream is None


@pytest.mark.parametrize("error", [UpstreamReset("gone"), RuntimeError("a bug")])
async def test_a_copy_that_fails_is_counted_and_hurts_nobody(
    bench: Bench,
    nursery: trio.Nursery,
    error: Exception,
) -> None:
    beside, shadow = Beside("main"), Shadow(error=error)
    shadow.go_on.set()
    await nursery.start(beside.run)
    mirroring = Mirroring(Mirror(MirrorConfig(cluster="s"), "r", beside), shadow)
    assert (await mirroring(bench.request(web()), answered)).head.status is Status.OK
    await trio.testing.wait_all_tasks_blocked()
    assert (beside.stats.mirror_failed, beside.stats.mirror_active) == (1, 0)


@pytest.mark.parametrize(("limit", "sent"), [(6, [b"abcdef"]), (5, [])])
async def test_a_body_in_pieces_is_copied_when_it_has_ended_if_it_is_small(
    bench: Bench,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    sent: list[bytes],
) -> None:
    beside, shadow = Beside("main"), Shadow()
    shadow.go_on.set()
    await nursery.start(beside.run)
    held: list[int] = []
    request = bench.request(web())
    request.body = FakeBody([b"abc", b"def"])
    monkeypatch.setattr(bench.stream, "hold", held.append, raising=False)
    mirror = Mirror(MirrorConfig(cluster="s", max_body_bytes=Size(limit)), "r", beside)
    await Mirroring(mirror, shadow)(request, answered)
    body: object = request.body
    assert isinstance(body, CopiedBody)
    assert body.note() == (body.inner, None)
    async for _ in body:
        assert not shadow.seen
    await trio.testing.wait_all_tasks_blocked()
    assert [one.body.data for one in shadow.seen if isinstance(one.body, BytesBody)] == sent
    assert beside.stats.mirror_too_large == (not sent)
    assert sum(held) <= limit


def test_one_value_is_drawn_for_a_copy_of_a_million(bench: Bench) -> None:
    values = iter([49_999, 50_000])
    mirror = Mirror(
        MirrorConfig(cluster="s", percent=5), "r", Beside("main"), lambda _: next(values)
    )
    assert [mirror.wants(bench.request(web())) for _ in range(2)] == [True, False]
    assert MILLION == 1_000_000


def test_no_tunnel_is_copied(bench: Bench) -> None:
    mirror = Mirror(MirrorConfig(cluster="s"), "r", Beside("main"))
    upgrade = attrs.evolve(web(), extra=Target(path="/", upgrade="websocket"))
    for head in (web("CONNECT", ""), upgrade):
        assert not mirror.wants(bench.request(head))
    raw = bench.request(web())
    raw.connection = attrs.evolve(
        raw.connection, traits=attrs.evolve(raw.connection.traits, headless=True)
    )
    assert isinstance(raw.connection.traits, Traits)
    assert not mirror.wants(raw)


@pytest.mark.parametrize(
    ("host", "shadow"),
    [("a", "a-shadow"), ("a:80", "a-shadow:80"), ("[::1]:80", "[::1]:80"), ("", "")],
)
def test_the_host_of_a_copy(bench: Bench, host: str, shadow: str) -> None:
    mirror = Mirror(MirrorConfig(cluster="s"), "r", Beside("main"))
    copy = mirror.copy(bench.request(attrs.evolve(web(), service=host)))
    assert copy.head.service == shadow
    call_ = RequestHead(service="S", method="m")
    assert mirror.copy(bench.request(call_)).head is call_
    assert isinstance(copy.stream, OwnStream)
