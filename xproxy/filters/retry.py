"""Retry: ask again where nothing is lost by asking.

A request whose body is there as a whole can be sent again; one whose body comes in pieces as long as these are kept.
Never again once the response is on its way to the client.
A call within a web request may say only in its trailers that it failed. Trailers that are there when its head is, and
before any piece of a body, count as if they were in the head; nobody waits for them: a stream may say its head early.
The wait before the n-th retry is drawn from [0, min(cap, base · 2^(n-1))): full jitter, as in Envoy's source (its
documentation gives other ranges), so that the clients of a server that comes back do not all come at once.
(idea: envoy:source/common/router/retry_state_impl.cc, linkerd2-proxy:linkerd/http/retry)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, final

import attrs
import trio
from attrs.validators import ge, gt, le, optional

from xproxy.filters.rate_limited_back_off import RateLimitedBackOff
from xproxy.filters.retry_control import FIELDS, asked
from xproxy.model.errors import DeadlineExceeded, StreamError
from xproxy.model.frames import Trailers
from xproxy.model.limits import KIB, Duration, Size
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.stream.links import Note, Stays
from xproxy.stream.replay import Recording
from xproxy.stream.wrapped import WrappedBody

_NO_ANSWER: Final = frozenset({"connect-failure", "refused-stream", "reset"})
_ANY_FAILURE: Final = _NO_ANSWER | {"deadline-exceeded", "unavailable"}
_FAILURES: Final[Mapping[str, frozenset[str]]] = {
    "connect-failure": frozenset({"connect-failure"}),
    "refused-stream": frozenset({"refused-stream"}),
    "reset": _NO_ANSWER,
    "unavailable": frozenset({"unavailable"}),
    "deadline-exceeded": frozenset({"deadline-exceeded"}),
    # What failed without an answer would have become one of these codes.
    "5xx": _ANY_FAILURE,
    "gateway-error": _ANY_FAILURE,
}
"""Condition → the failures (StreamError.condition) it stands for."""
_CODES: Final[Mapping[str, range | tuple[int, ...]]] = {
    "5xx": range(500, 600),
    "gateway-error": (502, 503, 504),
    "retriable-4xx": (409,),
}
"""Condition → the codes of web responses it stands for."""
_STATUSES: Final[Mapping[str, Status]] = {
    **{
        status.label: status
        for status in (
            Status.CANCELLED,
            Status.DEADLINE_EXCEEDED,
            Status.INTERNAL,
            Status.RESOURCE_EXHAUSTED,
            Status.UNAVAILABLE,
        )
    },
    **{f"status-{status.label}": status for status in Status if status is not Status.OK},
}
"""Condition → the neutral status of a response it stands for."""
_RATE_LIMITED: Final = "envoy-ratelimited"
_HEADERS: Final = "retriable-headers"
_LISTED: Final = "retriable-status-codes"
CONDITIONS: Final = tuple(
    dict.fromkeys([*_FAILURES, *_CODES, *_STATUSES, _RATE_LIMITED, _HEADERS, _LISTED])
)
"""All that may stand in ``on``."""

Outcome: TypeAlias = Response | StreamError


@attrs.frozen(kw_only=True)
class BackOff:
    """How long to wait before a retry."""

    base: Duration = attrs.field(default=Duration(0.025), validator=ge(Duration(0.0)))
    """Upper end of the wait before the first retry; doubles with each further one."""
    cap: Duration = attrs.field(default=Duration(0.25), validator=ge(Duration(0.0)))
    """The upper end never grows above this."""

    def wait(self, retry: int, draw: float) -> float:
        """Return the seconds before the ``retry``-th retry (from 1), for a random ``draw`` in [0, 1)."""
        # 2^30 times the least base is years: a larger exponent would only overflow.
        return draw * min(self.cap, self.base * 2.0 ** min(retry - 1, 30))


def _known(_: object, __: object, conditions: tuple[str, ...]) -> None:
    for condition in conditions:
        if condition not in CONDITIONS:
            raise ValueError(f"unknown condition {condition!r}; known: {', '.join(CONDITIONS)}")


def _union(sets: Mapping[str, frozenset[str]], names: tuple[str, ...]) -> frozenset[str]:
    return frozenset[str]().union(*(sets.get(name, frozenset()) for name in names))


@attrs.define(kw_only=True)
class Retry:
    """Ask again when a try failed in one of the ways named.

    Another endpoint is tried first, where there is one. Of a body that did not come whole with its head so much is
    kept as ``max_body_bytes`` says; a request of which more has gone out is not tried again. Such a body takes its
    time to come, so it has no ``per_try_timeout``.
    """

    on: tuple[str, ...] = attrs.field(
        default=("connect-failure", "refused-stream"), validator=_known
    )
    """``connect-failure``, ``refused-stream`` (nothing was done yet: safe for every request); ``reset`` (these, and
    no answer came); ``deadline-exceeded`` (of one try) and ``unavailable`` (no endpoint), which also stand for
    responses of that neutral status, as ``resource-exhausted``, ``internal``, ``cancelled`` and ``status-<any>`` do;
    of web responses ``gateway-error`` (502, 503, 504), ``5xx`` (both with every failure), ``retriable-4xx`` (409);
    ``envoy-ratelimited``: a response with ``x-envoy-ratelimited``, after which nothing else leads to a retry;
    ``retriable-headers`` and ``retriable-status-codes``: what is named beside."""
    statuses: tuple[int, ...] = ()
    """The protocol's own codes of responses after which to retry as well."""
    attempts: int = attrs.field(default=1, validator=[ge(0), le(100)])
    """Retries at most, after the first try."""
    per_try_timeout: Duration | None = attrs.field(
        default=None, validator=optional(gt(Duration(0.0)))
    )
    """Until a try has its response head; then it counts as ``deadline-exceeded``. None: only the route's timeout."""
    max_body_bytes: Size = attrs.field(default=Size(64 * KIB), validator=ge(Size(0)))
    """Of a request body that comes in pieces: so much is kept to be sent again."""
    back_off: BackOff = BackOff()
    """How long to wait before each retry."""
    rate_limited_back_off: RateLimitedBackOff | None = None
    """Where a response says how long to wait, wait so long."""
    retriable_headers: dict[str, str] = attrs.field(factory=dict)
    """With ``retriable-headers``: fields of responses after which to retry, and their values; ``""``: any value."""
    per_try_idle_timeout: Duration | None = attrs.field(
        default=None, validator=optional(gt(Duration(0.0)))
    )
    """A try of which nothing comes for so long counts as ``deadline-exceeded``; once the response has begun it is
    broken off."""
    client_control: bool = False
    """Heed what requests say: ``x-envoy-retry-on`` (any conditions, in addition to ``on``),
    ``x-envoy-max-retries`` (in place of ``attempts``, 10 at most), ``x-envoy-retriable-status-codes``,
    ``x-envoy-upstream-rq-timeout-ms`` (no longer than the route's timeout) and
    ``x-envoy-upstream-rq-per-try-timeout-ms``. These fields are not sent on, heeded or not."""

    _failures: frozenset[str] = attrs.field(init=False, eq=False, repr=False)
    _codes: frozenset[int] = attrs.field(init=False, eq=False, repr=False)
    _neutral: frozenset[Status] = attrs.field(init=False, eq=False, repr=False)
    _draw: Callable[[], float] = attrs.field(
        default=random.random, init=False, eq=False, repr=False
    )

    def __attrs_post_init__(self) -> None:
        if not self.on and not self.statuses and not self.client_control:
            raise ValueError("needs a condition in `on`, or a code in `statuses`")
        self._failures = _union(_FAILURES, self.on)
        self._codes = frozenset(code for name in self.on for code in _CODES.get(name, ()))
        self._neutral = frozenset(_STATUSES[name] for name in self.on if name in _STATUSES)

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Return the first outcome that is not to be tried again, or the last one there is. Raises StreamError."""
        if request.head.headers.has_any(FIELDS):
            policy = self._asked(request)
            headers = request.head.headers.remove(*FIELDS)
            request.head = attrs.evolve(request.head, headers=headers)
            return await policy(request, call_next)
        given = request.body
        head, origin, flags = request.head, request.origin, request.record.flags
        body: BytesBody | Recording
        if isinstance(given, BytesBody):
            body, timeout = given, self._head_timeout
            tried = request  # nothing of it goes on when it has failed: a fork would be for nothing
        else:
            # A streamed body takes its time to come. Whoever sends it may go on for a while after its try has failed.
            body, timeout = Recording(given, self.max_body_bytes, request.stream.hold), None
            tried = request.fork(body.replay())
        # Trailers are worth a look only where their outcome can lead to a retry.
        peek = bool(self._neutral)
        outcome = await _try(request, tried, call_next, timeout, peek=peek)
        retry = 0
        while self._asks_for_retry(request, body, head, outcome):
            if retry >= self.attempts:
                request.record.flag("URX")
                break
            permits = request.record.permits  # of the cluster tried last; none: nobody counts
            if permits is not None and not permits.acquire(request.connection.id):
                break
            retry += 1
            try:
                if isinstance(outcome, Response):
                    await outcome.aclose()
                await trio.sleep(self._wait(retry, outcome))
                given, tried = tried.body, request.fork(body.replay())
                await given.aclose()  # whoever has wrapped it learns that this try is over
                # Filters inside may have changed the request: the next try starts from what the first was given.
                tried.head, tried.origin, tried.record.flags = head, origin, flags
                outcome = await _try(request, tried, call_next, timeout, peek=peek)
            finally:
                if permits is not None:
                    permits.release(request.connection.id)
        if isinstance(outcome, StreamError):
            raise outcome.again()
        if self.per_try_idle_timeout is not None and type(outcome.body) is not BytesBody:
            outcome.body = IdleBody(outcome.body, self.per_try_idle_timeout)
        return outcome

    @property
    def _head_timeout(self) -> float | None:
        times = (self.per_try_timeout, self.per_try_idle_timeout)
        return min((time for time in times if time is not None), default=None)

    def _wait(self, retry: int, outcome: Outcome) -> float:
        draw = self._draw()
        if self.rate_limited_back_off is not None and isinstance(outcome, Response):
            told = self.rate_limited_back_off.wait(outcome.head.headers, draw)
            if told is not None:
                return told
        return self.back_off.wait(retry, draw)

    def _asked(self, request: Request) -> Retry:
        """Return the policy that also heeds what the request says, if it may say anything."""
        if not self.client_control:
            return self
        said = asked(request.head.headers)
        if said.timeout is not None:
            request.stream.limit(trio.current_time() + said.timeout)
        per_try = self.per_try_timeout
        return attrs.evolve(
            self,
            on=tuple(dict.fromkeys([*self.on, *(one for one in said.on if one in CONDITIONS)])),
            statuses=(*self.statuses, *said.statuses),
            attempts=self.attempts if said.attempts is None else said.attempts,
            per_try_timeout=(
                per_try if said.per_try_timeout is None else Duration(said.per_try_timeout)
            ),
        )

    def _asks_for_retry(
        self, request: Request, body: BytesBody | Recording, head: RequestHead, outcome: Outcome
    ) -> bool:
        if request.record.response_started:
            return False
        if isinstance(body, Recording) and not body.replayable:
            return False
        if isinstance(outcome, StreamError):
            # A local overflow has no condition: more of the same is what it needs least.
            return outcome.condition in self._failures
        answer = outcome.head
        headers = answer.headers
        if "x-envoy-overloaded" in headers:
            return False
        if "x-envoy-ratelimited" in headers:
            return _RATE_LIMITED in self.on
        if _HEADERS in self.on:
            for name, value in self.retriable_headers.items():
                if name in headers and value in ("", headers[name]):
                    return True
        return _status_of(outcome) in self._neutral or self._is_retriable_code(head, answer)

    def _is_retriable_code(self, head: RequestHead, answer: ResponseHead) -> bool:
        code = answer.native_status
        return code in self.statuses or (code in self._codes and isinstance(head.extra, Target))


async def _try(
    request: Request, tried: Request, call_next: Handler, timeout: float | None, *, peek: bool
) -> Outcome:
    """Make one try with ``tried``, which is ``request`` or a fork of it: what becomes of it has become of both."""
    forked = tried is not request
    if forked:
        request.adopt(tried)
    try:
        if timeout is None:
            response = await call_next(tried)
        else:
            with trio.move_on_after(timeout) as scope:
                response = await call_next(tried)
            if scope.cancelled_caught:
                return DeadlineExceeded(
                    f"no response head in {timeout:g} s (retry.per_try_timeout)"
                )
    except StreamError as error:
        return error.again()
    finally:
        if forked:
            request.adopt(tried)  # filters inside may have changed its head or body
    if peek and type(response.body) is not BytesBody and request.head.rpc is not None:
        return await _look_ahead(response)
    return response


async def _look_ahead(response: Response) -> Outcome:
    """Take what is there of the body without waiting for it; trailers alone make it one that came whole."""
    body = response.body
    try:
        with trio.move_on_after(0):
            piece = await body.receive()
            if isinstance(piece, Trailers):
                response.body = BytesBody(b"", piece)
            else:
                response.body = BegunBody(piece, body)
    except trio.EndOfChannel:
        response.body = BytesBody()
    except StreamError as error:
        await response.aclose()
        return error.again()
    return response


def _status_of(response: Response) -> Status:
    """Return how a response ended, as far as it is known before its body."""
    body = response.body
    trailers = body.trailers if isinstance(body, BytesBody) and not body.data else None
    return (trailers.status if trailers is not None else None) or response.head.status


@final
class BegunBody(WrappedBody):
    """A body of which a piece was taken, and is given back."""

    __slots__ = ("_first",)

    def __init__(self, first: bytes, inner: Body) -> None:
        super().__init__(inner)
        self._first: bytes | None = first

    async def receive(self) -> bytes | Trailers:
        """Give the first piece, then receive from the body itself."""
        first, self._first = self._first, None
        return await self.inner.receive() if first is None else first

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: once the piece was taken again, it is no more than the body within."""
        if self._first is not None:
            raise Stays("a response that is about to begin", for_now=True)
        return self.inner, None


@final
class IdleBody(WrappedBody):
    """A response body that is broken off when nothing of it comes for ``timeout`` seconds."""

    __slots__ = ("_timeout",)

    def __init__(self, inner: Body, timeout: float) -> None:
        super().__init__(inner)
        self._timeout = timeout

    async def receive(self) -> bytes | Trailers:
        """See Body. Raises DeadlineExceeded."""
        with trio.move_on_after(self._timeout):
            return await super().receive()
        raise DeadlineExceeded(f"nothing came in {self._timeout:g} s (retry.per_try_idle_timeout)")
