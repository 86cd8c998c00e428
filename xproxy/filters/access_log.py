"""Access log: one line for each request, written when its response has ended or has broken off."""

from __future__ import annotations

import time
from typing import Final, Literal, final

import attrs
import trio
from attrs.validators import ge, min_len
from trio.abc import ReceiveChannel

from xproxy.connection.streams import INTERNAL_ERROR
from xproxy.model.errors import ConfigError, StreamError
from xproxy.model.frames import Trailers
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.observe.log_format import (
    DEFAULT_FIELDS,
    DEFAULT_TEXT,
    Format,
    dropped_json,
    dropped_text,
    json_format,
    text_format,
)
from xproxy.observe.log_writer import LineWriter
from xproxy.observe.variables import Record
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Handler, Releasable, Request, Response, error_head

_CANCELLED: Final = ResponseHead(status=Status.CANCELLED)


def _make_format(log: AccessLog) -> Format:
    if log.format == "json":
        if log.template is not None:
            raise ValueError("`template` is for text; a JSON log has `fields`")
        return json_format(DEFAULT_FIELDS if log.fields is None else log.fields)
    if log.fields is not None:
        raise ValueError("`fields` are for JSON; write format: json, or a `template`")
    return text_format(DEFAULT_TEXT if log.template is None else log.template)


def _make_writer(log: AccessLog) -> LineWriter:
    dropped = dropped_json if log.format == "json" else dropped_text
    return LineWriter(log.path, log.max_pending, dropped)


@attrs.frozen(kw_only=True)
class AccessLog:
    """Write a line for each request when its response has ended, or has broken off.

    Lines never make a request wait: they go through a bounded queue to a task of their own. Put it outermost, so
    that it sees what the other filters did. The ``response_code`` of a reply made here is the one its codec is about
    to choose.
    """

    path: str = attrs.field(default="stderr", validator=min_len(1))
    """``stderr``, ``stdout`` or the path of a file. A file is appended to, and opened anew after it was rotated."""
    format: Literal["text", "json"] = "text"
    """A line of text, or a JSON object a line."""
    template: str | None = None
    """The text of a line, with ``%variables%``; missing values are ``-``, and what a client sent is escaped."""
    fields: dict[str, str] | None = None
    """Of a JSON line: key → text with ``%variables%``. A single variable keeps its type, null if it has no value."""
    max_pending: int = attrs.field(default=8192, validator=ge(1))
    """Lines that wait to be written; more are dropped, and a line says how many."""

    _format: Format = attrs.field(
        default=attrs.Factory(_make_format, takes_self=True), init=False, eq=False, repr=False
    )
    _writer: LineWriter = attrs.field(
        default=attrs.Factory(_make_writer, takes_self=True), init=False, eq=False, repr=False
    )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write the lines until cancelled. Raises ConfigError if the file cannot be opened."""
        try:
            await self._writer.run(task_status=task_status)
        except OSError as error:
            raise ConfigError(f"access_log: cannot open {self.path}: {error.strerror}") from error

    @property
    def dropped(self) -> int:
        """Lines dropped so far."""
        return self._writer.dropped

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        outcome: ResponseHead | None = INTERNAL_ERROR
        try:
            response = await call_next(request)
            outcome = None
        except StreamError as error:
            _note(request, error)
            outcome = error_head(error)
            raise
        except trio.Cancelled:
            outcome = _cut_off(request)
            raise
        finally:
            if outcome is not None:
                if outcome is not _CANCELLED and not request.response_started:
                    _count_text(request, outcome)
                self.log(request, outcome)
        lease = _LoggedLease(self, request, response)
        response.lease = lease
        if not isinstance(response.body, BytesBody):
            lease.ended = False
            response.body = _WatchedBody(response.body, lease)
        return response

    def refused(self, request: Request, head: ResponseHead) -> None:
        """See SupportsRefusals."""
        _count_text(request, head)
        self.log(request, head)

    def log(self, request: Request, head: ResponseHead) -> None:
        """Queue the line of a request that is over."""
        self._writer.write(self._format(Record(request, head, trio.current_time(), time.time())))


def _note(request: Request, error: StreamError) -> None:
    # The driver does the same when the error reaches it; by then the line is written.
    request.flag(error.flag)
    request.detail = error.detail


def _count_text(request: Request, head: ResponseHead) -> None:
    # The client's codec is about to make a reply of it, and nobody hears from it how long that was.
    text_of = request.connection.text_of
    if text_of is not None:
        request.sent_bytes = len(text_of(head, request.head))


def _cut_off(request: Request) -> ResponseHead:
    error = request.stream.interruption()
    if error is None:
        request.flag("DC")
        return _CANCELLED
    _note(request, error)
    return error_head(error)


@final
class _LoggedLease:
    """Logs when the response is closed, which its driver does after the last byte, or after whatever came instead."""

    __slots__ = ("_inner", "_log", "_logged", "_request", "_response", "ended")

    def __init__(self, log: AccessLog, request: Request, response: Response) -> None:
        self._log = log
        self._request = request
        self._response = response
        self._inner: Releasable | None = response.lease
        self._logged = False
        self.ended = True

    async def aclose(self) -> None:
        try:
            if self._inner is not None:
                await self._inner.aclose()
        finally:
            if not self._logged:
                self._logged = True
                if not self.ended:
                    request = self._request
                    cut = _cut_off(request)
                    if request.head.rpc is not None and request.outcome is None:
                        request.outcome = cut.status  # its trailers would have said it
                self._log.log(self._request, self._response.head)


@final
class _WatchedBody(ReceiveChannel[bytes | Trailers]):
    """A response body that tells the lease how it ended."""

    __slots__ = ("_inner", "_lease")

    def __init__(self, inner: Body, lease: _LoggedLease) -> None:
        self._inner = inner
        self._lease = lease

    async def receive(self) -> bytes | Trailers:
        """Receive from the body itself."""
        try:
            piece = await self._inner.receive()
        except trio.EndOfChannel:
            self._lease.ended = True
            raise
        except StreamError as error:
            self._lease.ended = True
            _note(self._lease._request, error)
            raise
        if isinstance(piece, Trailers):
            self._lease.ended = True  # the last piece, and senders know it
        return piece

    async def aclose(self) -> None:
        await self._inner.aclose()
