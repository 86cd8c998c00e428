"""Change headers of requests and responses: remove, set, add, with variables."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable
from typing import Final, final

import attrs

from xproxy.codecs.memo import HeadMemo
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, ResponseHead, recurring
from xproxy.observe.template import Template, clean_text
from xproxy.observe.variables import Moment, Phase, moment_of
from xproxy.stream.exchange import Handler, Request, Response

_NAME: Final = re.compile(r"[^\s\x00-\x1f\x7f:]+")
_CODECS_OWN: Final = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def check_name(name: str) -> None:
    """Raise ValueError for what cannot be a header, or belongs to the framing of messages."""
    if name.lower() in _CODECS_OWN or name.startswith(":"):
        raise ValueError(f"{name!r} belongs to the protocol and is not a filter's to change")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a header")


def check_value(value: str) -> None:
    """Raise ValueError for a value with control characters: a line break would begin another header."""
    if clean_text(value) != value:
        raise ValueError(f"{value!r} has control characters")


@attrs.frozen(kw_only=True)
class HeaderChanges:
    """What is done to the headers of a message: first ``remove``, then ``set``, then ``add``."""

    remove: tuple[str, ...] = ()
    """Names; every field of that name goes."""
    set: dict[str, str] = attrs.field(factory=dict)
    """Name → value, with ``%variables%``; replaces all fields of that name."""
    add: dict[str, str | tuple[str, ...]] = attrs.field(factory=dict)
    """Name → value or values, with ``%variables%``; fields of that name that are there stay."""

    def __attrs_post_init__(self) -> None:
        for name in (*self.remove, *self.set, *self.add):
            check_name(name)
        if len({name.lower() for name in self.set}) < len(self.set):
            raise ValueError("two names in `set` differ in nothing but case")
        for texts in (*self.set.values(), *self.add.values()):
            for text in (texts,) if isinstance(texts, str) else texts:
                check_value(text)


@final
class _Plan:
    """Changes, compiled."""

    __slots__ = ("_add", "_remove", "_replaced", "_set", "constant", "empty", "head_only")

    def __init__(self, changes: HeaderChanges, phase: Phase) -> None:
        self._remove = changes.remove
        self._set = [(name, Template(text, phase)) for name, text in changes.set.items()]
        self._replaced = frozenset(name.lower() for name in (*changes.remove, *changes.set))
        self._add = [
            (name, Template(text, phase))
            for name, texts in changes.add.items()
            for text in ((texts,) if isinstance(texts, str) else texts)
        ]
        templates = [template for _, template in (*self._set, *self._add)]
        self.empty = not self._remove and not templates
        self.constant = all(template.constant is not None for template in templates)
        self.head_only = all(template.head_only for template in templates)

    def apply(self, headers: Headers, moment: Moment) -> Headers:
        """Return the changed headers; the very same if nothing changes."""
        if self._remove:
            headers = headers.remove(*self._remove)
        for name, template in self._set:
            headers = headers.set(name, template.render(moment))
        if self._add:
            added = [(name, template.render(moment)) for name, template in self._add]
            headers = Headers((*headers.pairs, *added))
        return headers

    def change(self, head: RequestHead, moment: Moment) -> RequestHead:
        """Return the changed head; the very same if nothing changes."""
        headers = head.headers
        if not headers.has_any(self._replaced):
            fields = [(name, one.render(moment)) for name, one in (*self._set, *self._add)]
            return head.adding(tuple(fields)) if fields else head
        return head.with_headers(self.apply(headers, moment))


def _request_plan(filter_: ChangeHeaders) -> _Plan:
    return _Plan(filter_.request, Phase.REQUEST)


def _response_plan(filter_: ChangeHeaders) -> _Plan:
    return _Plan(filter_.response, Phase.RESPONSE)


@attrs.frozen(kw_only=True)
class ChangeHeaders:
    """Remove, set and add headers of requests and responses.

    Values may hold ``%variables%``; a missing value is ``-``. ``%route%`` and ``%cluster%`` have values in filters of
    routes, and in responses.
    """

    request: HeaderChanges = HeaderChanges()
    """Changes on the way to the upstream."""
    response: HeaderChanges = HeaderChanges()
    """Changes on the way back; not of replies to errors, which are made outside of all filters."""

    _on_request: _Plan = attrs.field(
        default=attrs.Factory(_request_plan, takes_self=True), init=False, eq=False, repr=False
    )
    _on_response: _Plan = attrs.field(
        default=attrs.Factory(_response_plan, takes_self=True), init=False, eq=False, repr=False
    )
    # A head that recurs is changed once: what comes out is one object again, so that the upstream codec's own memory
    # of encoded heads keeps working.
    _requests: HeadMemo[RequestHead] = attrs.field(
        factory=HeadMemo, init=False, eq=False, repr=False
    )
    _responses: HeadMemo[ResponseHead] = attrs.field(
        factory=HeadMemo, init=False, eq=False, repr=False
    )

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        """Change the request and hand it on; no frame of this filter's stands in between if responses stay."""
        if not self._on_request.empty:
            head = self._requests.get(request.head)
            request.head = head if head is not None else self._changed(request)
        if self._on_response.empty:
            return call_next(request)
        return self._and_response(request, call_next)

    def _changed(self, request: Request) -> RequestHead:
        plan = self._on_request
        old = request.head
        new = plan.change(old, moment_of(request, None, time.time()))
        # A head with a base was made for this one request by another filter: it will not come again.
        recurs = plan.head_only and old.base is None and old.recurs
        return self._requests.put(old, recurring(new)) if recurs else new

    async def _and_response(self, request: Request, call_next: Handler) -> Response:
        response = await call_next(request)
        plan = self._on_response
        old = response.head
        known = self._responses.get(old)
        if known is not None:
            response.head = known
            return response
        headers = plan.apply(old.headers, moment_of(request, old, time.time()))
        new = old if headers is old.headers else attrs.evolve(old, headers=headers)
        if plan.constant and old.recurs:
            self._responses.put(old, recurring(new))
        response.head = new
        return response
