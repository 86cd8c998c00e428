from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from xproxy.filters.access_log import AccessLog
from xproxy.model.errors import ConfigError, DeadlineExceeded, RouteNotFound, UpstreamReset
from xproxy.model.status import Status
from xproxy.stream.lifetime import SupportsRun

Kit = Any  # Any: conftest.py cannot be imported

TEMPLATE = '%method% %response_code% %status% %response_flags% %bytes_sent% "%detail%"'


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def log(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> AccessLog:
    """Return a log whose lines come to the list at once."""
    log = AccessLog(template=TEMPLATE)
    monkeypatch.setattr(type(log._writer), "write", lambda self, line: lines.append(line))
    return log


async def test_a_whole_response_is_logged_when_it_is_closed(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    request, given = kit.web(), kit.response()
    body, lease = given.body, given.lease
    response = await log(request, kit.upstream(given))
    assert response.body is body  # still whole: drivers send it at once
    assert lines == []
    request.sent_bytes = 5
    await response.aclose()
    assert lines == ['GET 200 ok - 5 "-"']
    assert lease.closed == 1
    await response.aclose()
    assert len(lines) == 1


async def test_a_streamed_response_is_logged_after_its_end(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    request = kit.web()
    response = await log(request, kit.upstream(kit.response(body=kit.body(b"12", b"3"))))
    for size in (2, 1):
        piece = await response.body.receive()
        assert isinstance(piece, bytes)
        assert len(piece) == size
        request.sent_bytes += size
    with pytest.raises(trio.EndOfChannel):
        await response.body.receive()
    assert lines == []
    await response.aclose()
    assert lines == ['GET 200 ok - 3 "-"']


async def test_a_response_that_breaks_off_is_logged_with_the_reason(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    body = kit.body(b"12", UpstreamReset("gone"))
    response = await log(kit.web(), kit.upstream(kit.response(body=body)))
    await response.body.receive()
    with pytest.raises(UpstreamReset):
        await response.body.receive()
    await response.aclose()
    assert lines == ['GET 200 ok UC 0 "gone"']


async def test_a_response_left_unread_was_left_by_the_client(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    body = kit.body(b"12", b"3")
    response = await log(kit.web(), kit.upstream(kit.response(body=body)))
    await response.body.receive()
    await response.aclose()
    await response.body.aclose()
    assert lines == ['GET 200 ok DC 0 "-"']
    assert body.closed


async def test_a_response_cut_off_by_its_deadline_says_so(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    response = await log(kit.web(), kit.upstream(kit.response(body=kit.body(trio.Event()))))
    kit.stream.reason = DeadlineExceeded("late")
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await response.body.receive()
        finally:
            await response.aclose()
    assert lines == ['GET 200 ok UT 0 "late"']


async def test_an_error_is_logged_at_once_and_goes_on(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    with pytest.raises(RouteNotFound):
        await log(kit.web(), kit.upstream(RouteNotFound("no such host")))
    assert lines == ['GET - not-found NR 0 "no such host"']


async def test_a_bug_is_logged_as_internal(kit: Kit, log: AccessLog, lines: list[str]) -> None:
    async def broken(_: object) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await log(kit.web(), broken)
    assert lines == ['GET - internal - 0 "-"']


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (None, 'GET - cancelled DC 0 "-"'),
        (DeadlineExceeded("late"), 'GET - deadline-exceeded UT 0 "late"'),
    ],
)
async def test_a_cancelled_request_is_logged_once(
    kit: Kit, log: AccessLog, lines: list[str], reason: Any, line: str
) -> None:
    kit.stream.reason = reason
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log, kit.web(), kit.upstream(trio.Event()))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert lines == [line]


async def test_a_cancelled_close_is_logged_all_the_same(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    response = await log(kit.web(), kit.upstream())
    with trio.CancelScope() as scope:
        scope.cancel()
        await response.aclose()
    assert lines == ['GET 200 ok - 0 "-"']


async def test_the_head_that_an_outer_filter_leaves_is_logged(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    response = await log(kit.web(), kit.upstream())
    response.head = kit.response(404, status=Status.NOT_FOUND).head
    await response.aclose()
    assert lines == ['GET 404 not-found - 0 "-"']


async def lines_of(path: Path, log: AccessLog, requests: int, kit: Kit) -> list[str]:
    assert isinstance(log, SupportsRun)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        for _ in range(requests):
            await (await log(kit.web(), kit.upstream())).aclose()
        nursery.cancel_scope.cancel()
    return path.read_text().splitlines()  # noqa: ASYNC240 - a few bytes


async def test_text_goes_to_a_file(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    found = await lines_of(path, AccessLog(path=str(path)), 3, kit)
    assert len(found) == 3
    assert found[0].split()[1:5] == ["192.0.2.7:40000", "http1", '"GET', 'reviews:9080/a?b=c"']
    assert found[0].split()[5:8] == ["200", "ok", "-"]


async def test_json_has_types_and_nulls(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path=str(path), format="json")
    (line,) = await lines_of(path, log, 1, kit)
    entry = json.loads(line)
    assert entry["response_code"] == 200
    assert entry["route"] is None
    assert isinstance(entry["duration"], float)
    fields = {"who": "%peer_ip%", "what": "%method% %path%"}
    other = tmp_path / "other.log"
    (line,) = await lines_of(
        other, AccessLog(path=str(other), format="json", fields=fields), 1, kit
    )
    assert json.loads(line) == {"who": "192.0.2.7", "what": "GET /a?b=c"}


async def test_a_file_that_cannot_be_opened_is_an_error_of_the_configuration(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="cannot open"):
        await AccessLog(path=str(tmp_path / "no" / "such")).run()


async def test_lines_beyond_the_bound_are_dropped_and_counted(kit: Kit, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(path=str(path), max_pending=2, template="line")
    for _ in range(5):
        await (await log(kit.web(), kit.upstream())).aclose()
    assert log.dropped == 3
    assert await lines_of(path, log, 0, kit) == ["line", "line", "- 3 access log lines dropped"]


@pytest.mark.parametrize(
    "fields",
    [
        {"template": "%nothing%"},
        {"template": "a\nb"},
        {"template": "x", "format": "json"},
        {"fields": {"a": "b"}},
        {"fields": {"a": "%nothing%"}, "format": "json"},
        {"max_pending": 0},
        {"path": ""},
    ],
)
def test_bad_configuration_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        AccessLog(**fields)


def test_equal_configurations_are_equal() -> None:
    assert AccessLog(path="a") == AccessLog(path="a")
    assert AccessLog(path="a") != AccessLog(path="b")
