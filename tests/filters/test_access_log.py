from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.live import GET, eventually, http_response, running, upstream, web
from xproxy.filters.access_log import AccessLog
from xproxy.model.errors import ConfigError, DeadlineExceeded, RouteNotFound, UpstreamReset
from xproxy.model.frames import Trailers
from xproxy.model.headers import Headers
from xproxy.model.message import Rpc
from xproxy.model.status import Status
from xproxy.observe.log_writer import LineWriter
from xproxy.stream.lifetime import SupportsRun
from xproxy.testing import Party, play

Kit = Any  # Any: conftest.py cannot be imported

TEMPLATE = '%method% %response_code% %status% %response_flags% %bytes_sent% "%detail%"'


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def log(lines: list[str], monkeypatch: pytest.MonkeyPatch) -> AccessLog:
    """Return a log whose lines come to the list at once."""
    log = AccessLog(template=TEMPLATE)
    monkeypatch.setattr(LineWriter, "write", lambda self, line: lines.append(line))
    return log


async def test_a_whole_response_is_logged_when_it_is_closed(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    request, given = kit.web(), kit.response()
    body, lease = given.body, given.lease
    response = await log(request, kit.upstream(given))
    assert response.body is body  # still whole: drivers send it at once
    assert lines == []
    request.record.sent_bytes = 5
    await response.aclose()
    assert lines == ['GET 200 ok - 5 "-"']
    assert lease.closed == 1
    await response.aclose()
    assert len(lines) == 1


async def test_trailers_are_the_end_of_a_response(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    request = kit.web()
    trailers = Trailers(1, Headers(), Status.DATA_LOSS)
    response = await log(request, kit.upstream(kit.response(body=kit.body(b"12", trailers))))
    await response.body.receive()
    assert await response.body.receive() is trailers
    request.record.outcome = Status.DATA_LOSS  # as its driver does
    await response.aclose()
    assert lines == ['GET 200 data-loss - 0 "-"']


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (None, 'GET 200 cancelled DC 0 "-"'),
        (DeadlineExceeded("late"), 'GET 200 deadline-exceeded UT 0 "late"'),
    ],
)
async def test_a_call_that_was_cut_off_has_that_for_an_outcome(
    kit: Kit, log: AccessLog, lines: list[str], reason: DeadlineExceeded | None, line: str
) -> None:
    request = kit.web()
    request.head = attrs.evolve(
        request.head, extra=attrs.evolve(request.head.extra, rpc=Rpc("grpc", "s", "m"))
    )
    kit.stream.reason = reason
    response = await log(request, kit.upstream(kit.response(body=kit.body(b"12"))))
    await response.aclose()
    assert lines == [line]


async def test_a_streamed_response_is_logged_after_its_end(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    request = kit.web()
    response = await log(request, kit.upstream(kit.response(body=kit.body(b"12", b"3"))))
    for size in (2, 1):
        piece = await response.body.receive()
        assert isinstance(piece, bytes)
        assert len(piece) == size
        request.record.sent_bytes += size
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
    assert lines == ['GET 200 unavailable UC 0 "gone"']


async def test_a_response_left_unread_was_left_by_the_client(
    kit: Kit, log: AccessLog, lines: list[str]
) -> None:
    body = kit.body(b"12", b"3")
    response = await log(kit.web(), kit.upstream(kit.response(body=body)))
    await response.body.receive()
    await response.aclose()
    await response.body.aclose()
    assert lines == ['GET 200 cancelled DC 0 "-"']
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
    assert lines == ['GET 200 deadline-exceeded UT 0 "late"']


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
    assert lines == ['GET - internal - 0 "ZeroDivisionError"']


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


# ---- what no filter sees


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", '- 400 invalid-argument DPE 8 "no Host"'),
        (
            b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
            '- 505 invalid-argument DPE 24 "version is not HTTP/1.x"',
        ),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", "- 414 invalid-argument DPE "),
        (b"GET / HTTP/1.1\r\nhos", "- 408 deadline-exceeded SI "),
    ],
    ids=["400", "505", "414", "408"],
)
async def test_a_request_that_was_refused_unseen_is_logged(
    sent: bytes, line: str, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    template = '%method% %response_code% %status% %response_flags% %bytes_sent% \\"%detail%\\"'
    log = f'    filters: [{{name: access_log, path: "{path}", template: "{template}"}}]\n'
    async with (
        upstream() as up,
        running(web(up.port, timeouts="{head: 50ms}", listener=log)) as live,
    ):
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await server.expect(GET.replace(b"host", b"Host"))
        await play(server >> http_response(b"ok"), client << http_response(b"ok"))
        await client.send(sent)
        await eventually(lambda: path.exists() and path.read_text().count("\n") == 2, "two lines")
    first, second = path.read_text().splitlines()
    assert first == 'GET 200 ok - 2 "-"'
    assert second.startswith(line)
    assert up.accepted == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_reply_made_here_is_counted_as_it_is_sent(method: str, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = f'    filters: [{{name: access_log, path: "{path}", template: "%response_code% %bytes_sent%"}}]\n'
    async with upstream() as up, running(web(up.port, listener=log)) as live:
        await up.aclose()
        client = await live.client()
        await client.send(GET.replace(b"GET", method.encode()))
        answer = await client.expect(re.compile(rb"HTTP/1\.1 503 (?s:.*?)\r\n\r\n(?s:.*)"))
        await eventually(lambda: path.exists() and path.read_text().count("\n") == 1, "a line")
    body = answer.partition(b"\r\n\r\n")[2]
    assert path.read_text() == f"503 {len(body)}\n"
    assert bool(body) is (method == "GET")
