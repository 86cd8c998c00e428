from __future__ import annotations

from typing import Any

import pytest

from xproxy.codecs.http_status import status_of
from xproxy.filters.direct_response import DirectResponse
from xproxy.model.message import Local
from xproxy.model.status import Status
from xproxy.stream.body import read_whole

Kit = Any  # Any: conftest.py cannot be imported


async def test_web_clients_of_the_family_get_the_very_code(kit: Kit) -> None:
    filter_ = DirectResponse(
        status=Status.UNAVAILABLE, code=503, body="down", headers={"Retry-After": "3"}
    )
    request, upstream = kit.web(), kit.upstream()
    response = await filter_(request, upstream)
    assert upstream.seen == []
    assert (response.head.status, response.head.native_status) == (Status.UNAVAILABLE, 503)
    assert response.head.headers.pairs == (
        ("Retry-After", "3"),
        ("content-type", "text/plain; charset=utf-8"),
    )
    assert (await read_whole(response.body, 99)).data == b"down"
    assert request.record.local
    assert request.record.detail == "direct_response"


async def test_other_clients_get_the_status(kit: Kit) -> None:
    filter_ = DirectResponse(status=Status.UNAVAILABLE, code=503, body="down")
    response = await filter_(kit.rpc(), kit.upstream())
    assert (response.head.status, response.head.native_status) == (Status.UNAVAILABLE, None)
    assert response.head.extra == Local(detail="down")
    assert (await read_whole(response.body, 99)).data == b""


async def test_a_code_of_another_family_is_not_used(kit: Kit) -> None:
    response = await DirectResponse(code=5, family="bolt")(kit.web(), kit.upstream())
    assert response.head.native_status is None


async def test_a_given_content_type_stays(kit: Kit) -> None:
    filter_ = DirectResponse(body="{}", headers={"Content-Type": "application/json"})
    response = await filter_(kit.web(), kit.upstream())
    assert response.head.headers.get_all("content-type") == ["application/json"]


async def test_without_a_body_there_is_no_content_type(kit: Kit) -> None:
    response = await DirectResponse()(kit.web(), kit.upstream())
    assert len(response.head.headers) == 0


def test_it_is_terminal() -> None:
    assert DirectResponse.terminal


@pytest.mark.parametrize(
    "fields", [{"code": -1}, {"headers": {"a b": "c"}}, {"headers": {"a": "\n"}}]
)
def test_bad_configuration_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|is not|control"):
        DirectResponse(**fields)


@pytest.mark.parametrize("code", [418, 404, 200])
async def test_a_code_may_stand_as_status(kit: Kit, code: int) -> None:
    response = await DirectResponse(status=code)(kit.web(), kit.upstream())
    assert response.head.native_status == code
    assert response.head.status is status_of(code)


@pytest.mark.parametrize("code", [0, 99, 199, 600])
def test_other_numbers_are_no_status(code: int) -> None:
    with pytest.raises(ValueError, match="200 … 599"):
        DirectResponse(status=code)
