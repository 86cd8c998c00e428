"""The recorder keeps the very request, so that what becomes of it can be read later."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

from xproxy.cli.demo.recorder import Recorder
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.exchange import Request, Response, local_response


async def test_it_keeps_the_request_and_hands_it_on() -> None:
    recorder = Recorder()
    request = cast("Request", object())
    answer = local_response(ResponseHead(status=Status.OK))

    def handler(got: Request) -> Awaitable[Response]:
        assert got is request

        async def respond() -> Response:
            return answer

        return respond()

    assert await recorder(request, handler) is answer
    assert list(recorder.requests) == [request]
