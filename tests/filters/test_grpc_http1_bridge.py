from __future__ import annotations

from typing import Any

import attrs
import pytest

from xproxy.codecs.grpc.framing import frame
from xproxy.filters.grpc_http1_bridge import GrpcHttp1Bridge
from xproxy.filters.grpc_web import FROM_WEB
from xproxy.model.errors import ConnectFailed, UpstreamReset
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.limits import Size
from xproxy.model.message import Rpc
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody

Kit = Any  # Any: conftest.py cannot be imported

GRPC = ("content-type", "application/grpc")
HELLO = frame(b"hello")


def call(kit: Kit, *, version: str = "1.1") -> Any:
    request = kit.web("/s/m", GRPC, method="POST", body=BytesBody(HELLO))
    target = attrs.evolve(request.head.extra, rpc=Rpc("grpc", "s", "m"), version=version)
    request.head = attrs.evolve(request.head, extra=target)
    return request


def ends(status: Status, *more: tuple[str, str]) -> Trailers:
    return Trailers(1, Headers((("grpc-status", str(status.value)), *more)), status)


async def test_trailers_become_headers(kit: Kit) -> None:
    body = kit.body(HELLO[:3], HELLO[3:], ends(Status.OK, ("x-t", "1")))
    response = kit.response(200, GRPC, ("x-a", "b"), ("trailer", "x-t"), body=body)
    lease = response.lease
    upstream = kit.upstream(response)
    answer: Any = await GrpcHttp1Bridge()(call(kit), upstream)
    assert upstream.seen[0].headers.get("te") == "trailers"
    assert answer.head.native_status == 200
    assert answer.head.headers.pairs == (GRPC, ("x-a", "b"), ("grpc-status", "0"), ("x-t", "1"))
    assert answer.body.data == HELLO
    assert answer.body.trailers is None
    assert lease.closed == 1


@pytest.mark.parametrize(
    ("status", "code"), [(Status.NOT_FOUND, 404), (Status.UNAVAILABLE, 503), (Status.INTERNAL, 500)]
)
async def test_the_code_fits_the_outcome(kit: Kit, status: Status, code: int) -> None:
    response = kit.response(200, GRPC, body=kit.body(ends(status, ("grpc-message", "why"))))
    answer: Any = await GrpcHttp1Bridge()(call(kit), kit.upstream(response))
    assert (answer.head.native_status, answer.head.status) == (code, status)
    assert answer.head.headers.get("grpc-message") == "why"


async def test_an_outcome_in_the_head_is_enough(kit: Kit) -> None:
    response = kit.response(
        200, GRPC, ("grpc-status", "5"), status=Status.NOT_FOUND, body=BytesBody()
    )
    answer: Any = await GrpcHttp1Bridge()(call(kit), kit.upstream(response))
    assert answer.head.native_status == 404
    assert answer.head.headers.get_all("grpc-status") == ["5"]


async def test_without_an_outcome_it_is_unknown(kit: Kit) -> None:
    answer: Any = await GrpcHttp1Bridge()(call(kit), kit.upstream(kit.response(200, GRPC)))
    assert (answer.head.native_status, answer.head.status) == (500, Status.UNKNOWN)
    assert answer.head.headers.get("grpc-status") == "2"


async def test_an_answer_that_is_not_grpc(kit: Kit) -> None:
    answer: Any = await GrpcHttp1Bridge()(call(kit), kit.upstream(kit.response(429)))
    assert (answer.head.native_status, answer.head.headers.get("grpc-status")) == (503, "14")
    assert "429" in answer.head.headers.get("grpc-message")


async def test_a_reply_made_here(kit: Kit) -> None:
    local = kit.response(None, status=Status.PERMISSION_DENIED)
    answer: Any = await GrpcHttp1Bridge()(call(kit), kit.upstream(local))
    assert (answer.head.native_status, answer.head.headers.get("grpc-status")) == (403, "7")


async def test_an_error_is_noted_and_answered(kit: Kit) -> None:
    request = call(kit)
    answer: Any = await GrpcHttp1Bridge()(request, kit.upstream(ConnectFailed("10.0.0.1 refused")))
    assert (answer.head.native_status, answer.head.headers.get("grpc-status")) == (503, "14")
    assert (request.record.flags, request.record.detail, request.record.local) == (
        "UF",
        "10.0.0.1 refused",
        True,
    )


async def test_an_answer_that_breaks_off(kit: Kit) -> None:
    response = kit.response(200, GRPC, body=kit.body(HELLO[:4], UpstreamReset("x")))
    lease = response.lease
    answer: Any = await GrpcHttp1Bridge()(call(kit), kit.upstream(response))
    assert (answer.head.native_status, answer.body.data) == (503, b"")
    assert lease.closed == 1


async def test_an_answer_above_the_limit(kit: Kit) -> None:
    response = kit.response(200, GRPC, body=kit.body(HELLO, HELLO))
    bridge = GrpcHttp1Bridge(max_response_bytes=Size(15))
    answer: Any = await bridge(call(kit), kit.upstream(response))
    assert (answer.head.native_status, answer.head.headers.get("grpc-status")) == (429, "8")
    assert answer.head.headers.get("grpc-message") == "body is above 15 bytes (grpc_http1_bridge)"


async def test_others_pass_as_they_are(kit: Kit) -> None:
    response = kit.response(200, GRPC)
    from_web = call(kit)
    from_web.note(FROM_WEB, True)
    for request in (kit.web(), kit.rpc(), call(kit, version="2"), from_web):
        assert await GrpcHttp1Bridge()(request, kit.upstream(response)) is response
