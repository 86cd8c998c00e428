"""Filters that do wrong: the log names the one that did, once, and the access log has its line in any case."""

from __future__ import annotations

import gc
import re
from collections.abc import Awaitable
from typing import cast

import attrs
import pytest
from trio.testing import MockClock

from tests.attempts import attempt_of
from tests.connection.kit import Fed, request_of
from xproxy.connection.failures import describe
from xproxy.filters.access_log import AccessLog
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import BytesBody
from xproxy.stream.chain import name_filters
from xproxy.stream.exchange import Filter, Handler, Request, Response
from xproxy.testing import proxy_pair
from xproxy.testing.fakes.lines import LINES

OK = ResponseHead(status=Status.OK)


class Wrong:
    """Does wrong in one way."""

    def __init__(self, how: str) -> None:
        self.how = how

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        if self.how == "none":
            await call_next(request)
            return None  # type: ignore[return-value]  # that is what is wrong
        if self.how == "no await":
            return call_next(request)  # type: ignore[return-value]  # as above
        if self.how == "no await, used":
            response = cast("Response", call_next(request))
            response.head = response.head
            return response
        if self.how == "raises before":
            raise ValueError("before")
        response = await call_next(request)
        if self.how == "raises after":
            raise ValueError("after")
        return response


class Plain:
    """No coroutine function."""

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        return None  # type: ignore[return-value]  # that is what is wrong


class Innocent:
    """Looks at what it gets."""

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        response = await call_next(request)
        assert response.head is not None
        return response


class Named(Wrong):
    pass


@attrs.define(eq=False)
class Held:
    """A lease."""

    closed: int = 0

    async def aclose(self) -> None:
        self.closed += 1


WRONGS: list[tuple[Filter, str]] = [
    (Wrong("none"), "FilterMisused"),
    (Wrong("no await"), "FilterMisused"),
    (Wrong("no await, used"), "AttributeError"),
    (Wrong("raises before"), "ValueError"),
    (Wrong("raises after"), "ValueError"),
    (Plain(), "FilterMisused"),
]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(
        "xproxy.observe.log_writer.LineWriter.write", lambda _self, line: found.append(line)
    )
    return found


LOG = AccessLog(template='%status% "%detail%"')


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize(("wrong", "kind"), WRONGS, ids=lambda v: getattr(v, "how", None))
async def test_the_right_filter_is_named_once_and_the_access_log_has_its_line(
    wrong: Filter,
    kind: str,
    where: str,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    logged: list[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    lease = Held()

    async def handle(request: Request) -> Response:
        attempt_of(request).hold(lease)
        return Response(OK, BytesBody(b"x"), lease=lease)

    filters: list[Filter] = [LOG, Innocent(), wrong]
    if where == "outside":
        filters = [Innocent(), wrong, LOG]
    async with proxy_pair(LINES, handler=handle, filters=filters) as pair:
        await pair.client.send(b"~q 7 svc me 0 -\n")
        await pair.client.expect(re.compile(rb"~s 7 13 0 -\n"))
    (record,) = caplog.records
    said = record.getMessage()
    assert f"filter {__name__}.{type(wrong).__name__} " in said
    assert "lines request 'me svc' (listener test)" in said
    assert "Innocent" not in said
    (line,) = logged
    assert line.startswith('internal "')
    if kind == "FilterMisused":
        assert type(wrong).__name__ in line
    else:
        assert line == f'internal "{kind}"'
    assert pair.connector.leased == 0
    assert lease.closed == (getattr(wrong, "how", "") in ("none", "raises after"))
    gc.collect()
    assert [str(w.message) for w in recwarn] == []


async def test_a_filter_is_called_by_its_name_in_configurations(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    name_filters(Named, "tenants")
    async with proxy_pair(LINES, filters=[Named("none"), Named("raises before")]) as pair:
        await pair.client.send(b"~q 7 svc me 0 -\n")
        await pair.client.expect(re.compile(rb"~s 7 13 0 -\n"))
    assert "filter tenants failed on" in caplog.records[0].getMessage()


async def test_a_handler_is_not_taken_for_the_filter_round_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def __call__(self, request: Request) -> Response:
            raise KeyError

    async with proxy_pair(LINES, handler=Broken(), filters=[Innocent()]) as pair:
        await pair.client.send(b"~q 7 svc me 0 -\n")
        await pair.client.expect(re.compile(rb"~s 7 13 0 -\n"))
    assert "Broken failed on" in caplog.records[0].getMessage()


async def test_a_body_that_a_filter_wrapped_is_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, logged: list[str]
) -> None:
    async def handle(_request: Request) -> Response:
        return Response(OK, Fed(b"half", failure=ZeroDivisionError()).ended())

    async with proxy_pair(LINES, handler=handle, filters=[LOG]) as pair:
        await pair.client.send(b"~q 7 svc me 0 -\n")
        await pair.client.expect(re.compile(rb"~s 7 13 0 -\n"))
    (record,) = caplog.records
    assert "tests.connection.kit.Fed" in record.getMessage()
    assert "listener test" in record.getMessage()
    assert logged == ['internal "ZeroDivisionError"']


def test_what_is_said_of_a_request_has_no_secrets_and_an_end() -> None:
    request = request_of()
    request.head = attrs.evolve(request.head, service="me:pw@host", method="GET")
    assert "pw" not in describe(request)
    request.head = attrs.evolve(request.head, service="x" * 9999)
    assert len(describe(request)) < 500
