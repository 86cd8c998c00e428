from __future__ import annotations

import base64
from typing import Any

import attrs
import pytest
import trio

from xproxy.codecs.grpc.framing import frame
from xproxy.codecs.grpc.web import trailer_frame
from xproxy.filters.grpc_web import FROM_WEB, GrpcWeb
from xproxy.model.errors import RequestBroken, UpstreamReset
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.message import Rpc, recurring
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody

Kit = Any  # Any: conftest.py cannot be imported

WEB, TEXT = "application/grpc-web+proto", "application/grpc-web-text"
GRPC = ("content-type", "application/grpc+proto")
HELLO = frame(b"hello")
ENDS = Trailers(1, Headers((("grpc-status", "5"), ("grpc-message", "gone"))), Status.NOT_FOUND)


def call(kit: Kit, kind: str, body: Any, *headers: tuple[str, str]) -> Any:
    request = kit.web("/s/m", ("content-type", kind), *headers, method="POST", body=body)
    dialect = "grpc-web" if "web" in kind else "grpc"
    target = attrs.evolve(request.head.extra, rpc=Rpc(dialect, "s", "m"))
    request.head = attrs.evolve(request.head, extra=target)
    return request


async def pieces(body: Any) -> list[object]:
    found: list[object] = []
    while True:
        try:
            found.append(await body.receive())
        except trio.EndOfChannel:
            return found


async def test_a_call_goes_on_as_grpc(kit: Kit) -> None:
    upstream = kit.upstream(kit.response(200, GRPC))
    request = call(kit, WEB, BytesBody(HELLO), ("content-length", "10"), ("x-a", "b"))
    before = request.head
    await GrpcWeb()(request, upstream)
    (seen,) = upstream.seen
    assert seen.rpc == Rpc("grpc", "s", "m")
    assert seen.headers.pairs == (("x-a", "b"), GRPC, ("te", "trailers"))
    assert (before.rpc or seen.rpc).dialect == "grpc-web"
    assert request.metadata[FROM_WEB]
    assert upstream.bodies[0].data == HELLO


async def test_a_recurring_head_is_changed_once(kit: Kit) -> None:
    upstream = kit.upstream(kit.response(200, GRPC))
    web = GrpcWeb()
    head = recurring(call(kit, WEB, None).head)
    for _ in range(2):
        request = call(kit, WEB, None)
        request.head = head
        await web(request, upstream)
    assert upstream.seen[0] is upstream.seen[1]


@pytest.mark.parametrize("kind", ["application/grpc", "text/plain"])
async def test_others_pass_as_they_are(kit: Kit, kind: str) -> None:
    response = kit.response(503)
    request = call(kit, kind, None) if "grpc" in kind else kit.web()
    head = request.head
    assert await GrpcWeb()(request, kit.upstream(response)) is response
    assert request.head is head


async def test_trailers_become_the_last_piece(kit: Kit) -> None:
    response = kit.response(200, GRPC, ("content-length", "9"), body=kit.body(HELLO, ENDS))
    request = call(kit, WEB, None)
    answer = await GrpcWeb()(request, kit.upstream(response))
    assert answer.head.headers.pairs == (("content-type", WEB),)
    assert await pieces(answer.body) == [HELLO, trailer_frame(ENDS.headers)]
    assert await pieces(answer.body) == []
    assert request.record.outcome is Status.NOT_FOUND


async def test_text_goes_piece_by_piece_both_ways(kit: Kit) -> None:
    sent = base64.b64encode(HELLO)
    upstream = kit.upstream(kit.response(200, GRPC, body=kit.body(HELLO, b"x", ENDS)))
    request = call(kit, TEXT, kit.body(sent[:3], sent[3:9], sent[9:]))
    answer = await GrpcWeb()(request, upstream)
    assert b"".join(await pieces(upstream.bodies[0])) == HELLO  # type: ignore[arg-type]  # bytes all
    assert answer.head.headers.get("content-type") == "application/grpc-web-text+proto"
    got = await pieces(answer.body)
    assert [base64.b64decode(one) for one in got] == [HELLO, b"x", trailer_frame(ENDS.headers)]  # type: ignore[arg-type]  # likewise


async def test_a_whole_text_body_is_decoded_at_once(kit: Kit) -> None:
    upstream = kit.upstream(kit.response(200, GRPC))
    await GrpcWeb()(call(kit, TEXT, BytesBody(base64.b64encode(HELLO))), upstream)
    assert upstream.bodies[0].data == HELLO


@pytest.mark.parametrize("body", [b"a$b=", b"YWJjZ"])
async def test_what_is_not_base64_is_refused(kit: Kit, body: bytes) -> None:
    with pytest.raises(RequestBroken, match="base64"):
        await GrpcWeb()(call(kit, TEXT, BytesBody(body)), kit.upstream())
    upstream = kit.upstream(kit.response(200, GRPC))
    await GrpcWeb()(call(kit, TEXT, kit.body(body)), upstream)
    with pytest.raises(RequestBroken, match="base64"):
        await pieces(upstream.bodies[0])


async def test_an_outcome_in_the_head_stays_there(kit: Kit) -> None:
    failed = kit.response(200, GRPC, ("grpc-status", "5"), body=BytesBody())
    answer = await GrpcWeb()(call(kit, WEB, None), kit.upstream(failed))
    assert answer.head.headers.get("grpc-status") == "5"
    assert await pieces(answer.body) == []


async def test_an_answer_that_is_not_grpc_becomes_one(kit: Kit) -> None:
    response = kit.response(404, ("content-type", "text/html"))
    lease = response.lease
    answer = await GrpcWeb()(call(kit, WEB, None), kit.upstream(response))
    assert lease.closed == 1
    assert (answer.head.native_status, answer.head.status) == (None, Status.UNIMPLEMENTED)
    assert "404" in answer.head.extra.detail


async def test_replies_made_here_are_the_codecs_business(kit: Kit) -> None:
    local = kit.response(None, status=Status.UNAVAILABLE)
    assert await GrpcWeb()(call(kit, WEB, None), kit.upstream(local)) is local
    with pytest.raises(UpstreamReset):
        await GrpcWeb()(call(kit, WEB, None), kit.upstream(UpstreamReset("x")))


async def test_closing_closes_what_is_inside(kit: Kit) -> None:
    inner, given = kit.body(HELLO), kit.body(b"")
    upstream = kit.upstream(kit.response(200, GRPC, body=inner))
    answer = await GrpcWeb()(call(kit, TEXT, given), upstream)
    await answer.body.aclose()
    await upstream.bodies[0].aclose()
    assert inner.closed
    assert given.closed
