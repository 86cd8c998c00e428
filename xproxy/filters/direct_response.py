"""Direct response: an answer made here, in whatever protocol the client speaks."""

from __future__ import annotations

from typing import ClassVar

import attrs
from attrs.validators import ge, le, optional

from xproxy.codecs.http_status import status_of
from xproxy.filters.headers import check_name, check_value
from xproxy.model.headers import Headers
from xproxy.model.message import Local, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import WEB_FAMILY
from xproxy.stream.exchange import Handler, Request, Response, local_response


def _names(_: object, __: object, headers: dict[str, str]) -> None:
    for name, value in headers.items():
        check_name(name)
        check_value(value)


def _no_such_code(_: object, __: object, status: Status | int) -> None:
    if not isinstance(status, Status) and not 200 <= status <= 599:
        raise ValueError(f"must be 200 … 599, found {status}")


def _neutral(status: Status | int) -> Status:
    return status if isinstance(status, Status) else status_of(status)


def _native(response: DirectResponse) -> int | None:
    status = response.status
    return status if response.code is None and not isinstance(status, Status) else response.code


@attrs.frozen(kw_only=True)
class DirectResponse:
    """Answer every request here.

    ``status`` is neutral: the client's codec turns it into a code of its own. Where that is not exact enough,
    ``code`` is the very code for clients of one family of protocols; all others still get ``status``.
    """

    terminal: ClassVar[bool] = True
    """It answers: a route with it needs no cluster."""

    status: Status | int = attrs.field(default=Status.OK, validator=_no_such_code)
    """The neutral outcome, e.g. ``ok``, ``not-found``, ``unavailable``; or a status code of HTTP, e.g. 418: then web
    clients get that, and all others what it means."""
    code: int | None = attrs.field(default=None, validator=optional([ge(0), le(65535)]))
    """The protocol's own code for clients of ``family``. Say ``status`` as well, so that it means the same to all."""
    family: str = WEB_FAMILY
    """The family of protocols that ``code`` belongs to."""
    body: str = ""
    """Text sent to web clients; RPC clients get it as the message of the outcome."""
    headers: dict[str, str] = attrs.field(factory=dict, validator=_names)
    """Headers of the response to web clients; ``content-type`` is ``text/plain; charset=utf-8`` unless it is here."""

    _status: Status = attrs.field(
        default=attrs.Factory(lambda self: _neutral(self.status), takes_self=True), init=False
    )
    _code: int | None = attrs.field(
        default=attrs.Factory(lambda self: _native(self), takes_self=True), init=False
    )

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Never calls on. Never blocks and is no checkpoint."""
        request.record.local = True
        request.record.detail = "direct_response"
        status, code = self._status, self._code
        if not isinstance(request.head.extra, Target):
            return local_response(ResponseHead(status=status, extra=Local(detail=self.body)))
        traits = request.connection.traits
        family = traits.family or request.connection.protocol
        headers = Headers.of(self.headers)
        if self.body and "content-type" not in headers:
            headers = headers.add("content-type", "text/plain; charset=utf-8")
        head = ResponseHead(
            status=status,
            native_status=code if family == self.family else None,
            headers=headers,
            extra=Local(detail=self.body),
        )
        return local_response(head, self.body.encode("utf-8", "replace"))
