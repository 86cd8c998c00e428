from __future__ import annotations

from typing import cast

import attrs
import pytest

from xproxy.model.errors import RouteNotFound
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.chain import compose
from xproxy.stream.exchange import Handler, Request, Response, local_response

REQUEST = cast("Request", object())


@attrs.frozen
class Note:
    name: str
    log: list[str]

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        self.log.append(f"> {self.name}")
        try:
            return await call_next(request)
        finally:
            self.log.append(f"< {self.name}")


async def test_the_first_filter_is_the_outermost() -> None:
    log: list[str] = []

    async def innermost(request: Request) -> Response:
        assert request is REQUEST
        log.append("handle")
        return local_response(ResponseHead(status=Status.OK))

    handler = compose([Note("a", log), Note("b", log)], innermost)
    response = await handler(REQUEST)
    assert response.head.status is Status.OK
    assert log == ["> a", "> b", "handle", "< b", "< a"]


async def test_an_error_comes_back_by_the_same_stairs() -> None:
    log: list[str] = []

    async def innermost(_: Request) -> Response:
        raise RouteNotFound("none")

    with pytest.raises(RouteNotFound):
        await compose([Note("a", log)], innermost)(REQUEST)
    assert log == ["> a", "< a"]


async def test_no_filters_leave_the_handler_itself() -> None:
    async def innermost(_: Request) -> Response:
        return local_response(ResponseHead(status=Status.OK))

    assert compose([], innermost) is innermost
