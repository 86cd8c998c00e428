"""The check by gRPC's health service, against grpcio's server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.health_checks.kit import answering_in, bench, scripted
from xproxy.codecs.grpc.health import (
    CHECK,
    SERVICE,
    Serving,
    decode_request,
    encode_response,
)
from xproxy.health_checks.grpc_health import GrpcHealth
from xproxy.model.status import Status
from xproxy.upstream.health.api import CheckFailed

STATES = {"": Serving.SERVING, "down": Serving.NOT_SERVING, "odd": Serving.UNKNOWN}


class _Service(grpc.GenericRpcHandler):
    def service(
        self, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[str, Serving] | None:
        if details.method != f"/{SERVICE}/{CHECK}":
            return None

        def check(name: str, context: grpc.ServicerContext) -> Serving:
            if name not in STATES:
                context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
            return STATES[name]

        return grpc.unary_unary_rpc_method_handler(check, decode_request, encode_response)


@pytest.fixture
def port() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((_Service(),))
    number: int = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield number
    server.stop(None).wait()


async def test_a_real_server(port: int) -> None:
    async with bench(scripted()) as (by, _):
        assert await by.check(GrpcHealth(), port) is None
        for service, said in (("down", "NOT_SERVING"), ("odd", "UNKNOWN"), ("other", "not-found")):
            with pytest.raises(CheckFailed, match=said) as caught:
                await by.check(GrpcHealth(service=service), port)
            assert caught.value.at_once
        probe = by.probe(port)
        for _ in range(3):
            await GrpcHealth()(probe)
        probe.close()


async def test_an_answer_that_is_none() -> None:
    async with bench(answering_in("http2", Status.OK)) as (by, up):
        with pytest.raises(CheckFailed):
            await by.check(GrpcHealth(), up.port)
