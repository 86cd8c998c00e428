from __future__ import annotations

import os
import uuid
from typing import Any

import pytest

from xproxy.filters.request_id import REQUEST_ID, RequestId, new_id

Kit = Any  # Any: conftest.py cannot be imported


def test_ids_are_random_uuids() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    for text in ids:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


async def test_a_request_without_an_id_gets_one(kit: Kit) -> None:
    request, upstream = kit.web(), kit.upstream()
    response = await RequestId()(request, upstream)
    assert upstream.seen[0].headers["x-request-id"] == request.metadata[REQUEST_ID]
    assert len(request.metadata[REQUEST_ID]) == 36
    assert "x-request-id" not in response.head.headers


async def test_an_id_that_came_is_kept_and_the_head_untouched(kit: Kit) -> None:
    request, upstream = kit.web("/", ("X-Request-Id", "mine")), kit.upstream()
    head = request.head
    await RequestId()(request, upstream)
    assert request.metadata[REQUEST_ID] == "mine"
    assert upstream.seen[0] is head


@pytest.mark.parametrize(("incoming", "value"), [("replace", "mine"), ("keep", "")])
async def test_an_id_is_replaced_if_asked_for_or_empty(kit: Kit, incoming: Any, value: str) -> None:
    request, upstream = kit.web("/", ("x-request-id", value)), kit.upstream()
    await RequestId(incoming=incoming)(request, upstream)
    assert upstream.seen[0].headers.get_all("x-request-id") == [request.metadata[REQUEST_ID]]
    assert request.metadata[REQUEST_ID] != value


async def test_the_client_is_told_if_asked_for(kit: Kit) -> None:
    request = kit.rpc()
    response = await RequestId(echo=True, header="trace")(request, kit.upstream())
    assert response.head.headers["trace"] == request.metadata[REQUEST_ID]


def test_the_headers_name_is_checked() -> None:
    with pytest.raises(ValueError, match="is not"):
        RequestId(header="a b")


def test_ids_are_spread_evenly_by_what_changes_in_them() -> None:
    shares = [int(new_id()[:8], 16) / 2**32 for _ in range(1000)]
    for tenth in range(10):
        assert 80 <= sum(tenth / 10 <= share < (tenth + 1) / 10 for share in shares) <= 120


def test_a_forked_process_does_not_repeat_its_parent() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read, encoding="ascii") as told:
        theirs = told.read()
    mine = new_id()
    assert len(theirs) == 36
    assert theirs[13:] != mine[13:]
