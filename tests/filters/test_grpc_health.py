from __future__ import annotations

from typing import Any

import attrs
import pytest

from xproxy.codecs.grpc.framing import COMPRESSED, frame
from xproxy.codecs.grpc.health import Serving, decode_response, encode_request
from xproxy.filters.grpc_health import GrpcHealth, NotAQuestion
from xproxy.model.errors import BodyTooLarge, Unsupported
from xproxy.model.message import Rpc
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody

Kit = Any  # Any: conftest.py cannot be imported

HEALTH = GrpcHealth(services=("lab.Echo",))
SERVICE = "grpc.health.v1.Health"


def check(kit: Kit, body: Any, method: str = "Check", service: str = SERVICE) -> Any:
    request = kit.web(f"/{service}/{method}", method="POST", body=body)
    target = attrs.evolve(request.head.extra, rpc=Rpc("grpc", service, method))
    request.head = attrs.evolve(request.head, extra=target)
    return request


def asks(service: str) -> BytesBody:
    return BytesBody(frame(encode_request(service)))


@attrs.frozen
class Connection:
    draining: bool


@pytest.mark.parametrize("service", ["", "lab.Echo"])
@pytest.mark.parametrize("draining", [None, False, True])
async def test_it_serves_until_it_drains(kit: Kit, service: str, draining: bool | None) -> None:
    request = check(kit, asks(service))
    if draining is not None:
        request.connection.downstream = Connection(draining)
    answer: Any = await HEALTH(request, kit.upstream())
    assert answer.head.native_status == 200
    assert answer.head.headers.get("content-type") == "application/grpc"
    wanted = Serving.NOT_SERVING if draining else Serving.SERVING
    assert answer.body.data[:5] == b"\0\0\0\0\x02"
    assert decode_response(answer.body.data[5:]) is wanted
    assert answer.body.trailers.headers.get("grpc-status") == "0"
    assert answer.body.trailers.status is Status.OK
    assert (request.record.local, request.record.detail) == (True, "grpc_health")


async def test_a_question_in_pieces(kit: Kit) -> None:
    data = asks("lab.Echo").data
    answer: Any = await HEALTH(check(kit, kit.body(data[:3], data[3:])), kit.upstream())
    assert answer.head.status is Status.OK


async def test_an_unknown_service_is_not_found(kit: Kit) -> None:
    answer: Any = await HEALTH(check(kit, asks("other")), kit.upstream())
    assert (answer.head.status, answer.head.native_status) == (Status.NOT_FOUND, None)


async def test_watch_is_not_implemented(kit: Kit) -> None:
    with pytest.raises(Unsupported, match="Watch"):
        await HEALTH(check(kit, asks(""), "Watch"), kit.upstream())


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0\0\0", frame(b"") * 2, frame(b"", COMPRESSED), frame(b"\xff"), b"\x02\0\0\0\0"],
)
async def test_what_is_no_question(kit: Kit, body: bytes) -> None:
    with pytest.raises(NotAQuestion):
        await HEALTH(check(kit, BytesBody(body)), kit.upstream())


async def test_a_question_that_is_too_long(kit: Kit) -> None:
    with pytest.raises(BodyTooLarge):
        await HEALTH(check(kit, BytesBody(bytes(1025))), kit.upstream())


async def test_others_pass(kit: Kit) -> None:
    response = kit.response()
    for request in (kit.web(), kit.rpc(), check(kit, None, service="lab.Echo")):
        assert await HEALTH(request, kit.upstream(response)) is response
