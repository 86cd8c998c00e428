"""Access log: one line for each request, written when its response has ended or has broken off."""

from __future__ import annotations

import time
from typing import Final, Literal, final

import attrs
import trio
from attrs.validators import ge, min_len

from xproxy.connection.failures import INTERNAL_ERROR, failure_detail
from xproxy.model.errors import ConfigError, LocalProtocolError, StreamError
from xproxy.model.limits import Size
from xproxy.model.message import ResponseHead
from xproxy.model.secrets import DEFAULT_SECRETS, SecretNames
from xproxy.model.status import Status
from xproxy.observe.log_format import (
    DEFAULT_FIELDS,
    DEFAULT_TEXT,
    MAX_FIELD,
    Format,
    dropped_json,
    dropped_text,
    json_format,
    text_format,
)
from xproxy.observe.log_sink import LogStats, check_path
from xproxy.observe.log_writer import MAX_PENDING_BYTES, LineWriter
from xproxy.observe.variables import Moment
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.ending import BodyEnding, Broke, GivenUp
from xproxy.stream.exchange import Handler, Releasable, Request, Response, error_head
from xproxy.stream.links import Note, Plain, note_of
from xproxy.stream.wrapped import WrappedBody

_CANCELLED: Final = ResponseHead(status=Status.CANCELLED)


def _make_format(log: AccessLog) -> Format:
    if log.format == "json":
        if log.template is not None:
            raise ValueError("`template` is for text; a JSON log has `fields`")
        fields = DEFAULT_FIELDS if log.fields is None else log.fields
        return json_format(fields, log.max_field, log.redaction)
    if log.fields is not None:
        raise ValueError("`fields` are for JSON; write format: json, or a `template`")
    template = DEFAULT_TEXT if log.template is None else log.template
    return text_format(template, log.max_field, log.redaction)


def _make_writer(log: AccessLog) -> LineWriter:
    dropped = dropped_json if log.format == "json" else dropped_text
    return LineWriter(log.path, log.max_pending, dropped, log.max_pending_bytes)


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
    max_pending_bytes: Size = attrs.field(default=Size(MAX_PENDING_BYTES), validator=ge(Size(1)))
    """What these lines may take; likewise."""
    max_field: int = attrs.field(default=MAX_FIELD, validator=ge(16))
    """Characters of one value; of longer ones the line has so many, and `…`."""
    redaction: SecretNames = DEFAULT_SECRETS
    """What is not told of a client: headers, arguments and parameters of URLs by their names, passwords in URLs."""

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

    def probe(self) -> tuple[str, str] | None:
        """See SupportsProbe."""
        try:
            check_path(self.path)
        except OSError as error:
            return "path", f"cannot open {self.path}: {error.strerror}"
        return None

    def statistics(self) -> tuple[str, str, LogStats] | None:
        """See SupportsStatistics: those of the place where the lines go, which others may write to as well."""
        stats = self._writer.stats
        return ("log", self.path, stats) if stats is not None else None

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
        except LocalProtocolError as error:
            request.record.detail = str(error)
            raise
        except (
            Exception
        ) as error:  # a filter, or we, did wrong: whoever reads the log sees what it was
            request.record.detail = failure_detail(error)
            raise
        finally:
            if outcome is not None:
                if outcome is not _CANCELLED and not request.record.response_started:
                    _count_text(request, outcome)
                self.log(request, outcome)
        response.lease = _LoggedLease(self, request, response)
        return response

    def relink(self, request: Request, response: Response, fields: tuple[Plain, ...]) -> None:
        """See SupportsRelink: the line is written here."""
        match fields:
            case (bool() as watched,):
                response.lease = _LoggedLease(self, request, response, watched=watched)
            case _:
                raise ValueError("no lease of an access log")

    def refused(self, request: Request, head: ResponseHead) -> None:
        """See SupportsRefusals."""
        _count_text(request, head)
        self.log(request, head)

    def log(self, request: Request, head: ResponseHead) -> None:
        """Queue the line of a request that is over."""
        request.record.logged = True
        self._writer.write(self._format(Moment(request, head, trio.current_time(), time.time())))


def _note(request: Request, error: StreamError) -> None:
    # The driver does the same when the error reaches it; by then the line is written.
    request.record.flag(error.flag)
    request.record.detail = error.detail


def _count_text(request: Request, head: ResponseHead) -> None:
    # The client's codec is about to make a reply of it, and nobody hears from it how long that was.
    text_of = request.connection.text_of
    if text_of is not None:
        request.record.sent_bytes = len(text_of(head, request.head))


def _cut_off(request: Request) -> ResponseHead:
    error = request.stream.interruption()
    if request.record.outcome is Status.INTERNAL and request.record.detail:
        return INTERNAL_ERROR  # it was no client that did it: a filter failed, or its body
    if error is None:
        request.record.flag("DC")
        return _CANCELLED
    _note(request, error)
    return error_head(error)


@final
class _LoggedLease:
    """Logs when the response is closed, which its driver does after the last byte, or after whatever came instead."""

    __slots__ = ("_body", "_inner", "_log", "_logged", "_request", "_response")

    def __init__(
        self, log: AccessLog, request: Request, response: Response, *, watched: bool = True
    ) -> None:
        self._log = log
        self._request = request
        self._response = response
        self._inner: Releasable | None = response.lease
        self._logged = False
        self._body: _WatchedBody | None = None
        if watched and type(response.body) is not BytesBody:
            response.body = self._body = _WatchedBody(request, response.body)

    async def aclose(self) -> None:
        try:
            if self._inner is not None:
                await self._inner.aclose()
        finally:
            if not self._logged:
                self._logged = True
                if self._body is not None:
                    self._body.give_up()  # whoever put another body in its place does not close it
                self._log.log(self._request, self._response.head)

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: of the body, too."""
        watched = self._body is not None and not self._body.over
        return self._inner, note_of(AccessLog, watched)

    def depart(self) -> None:
        """See SupportsNote."""
        self._logged = True
        self._inner = self._body = None


@final
class _WatchedBody(WrappedBody):
    """A response body that writes down in the request what its ending means."""

    __slots__ = ("_request",)

    def __init__(self, request: Request, inner: Body) -> None:
        super().__init__(inner)
        self._request = request

    def ended(self, how: BodyEnding) -> None:
        """See WrappedBody."""
        record = self._request.record
        match how:
            case Broke(error, None):
                _note(self._request, error)
                record.outcome = record.outcome or error.status  # half an answer is none
            case Broke(bug=Exception() as bug):  # a body that a filter wrapped
                record.outcome = Status.INTERNAL
                record.detail = failure_detail(bug)
            case GivenUp():
                cut = _cut_off(self._request)
                record.outcome = record.outcome or cut.status  # its end would have said it

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: its lease says it."""
        return self.inner, None
