"""Retry: ask again where nothing is lost by asking.

A request whose body is there as a whole can be sent again; one whose body still comes in only as long as nobody has
taken a piece of it. Never again once the response is on its way to the client.
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
from trio.abc import ReceiveChannel

from xproxy.config.schema import Duration
from xproxy.model.errors import DeadlineExceeded, StreamError
from xproxy.model.frames import Trailers
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Handler, Request, Response

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
_NOTHING_SENT: Final = frozenset({"connect-failure", "refused-stream"})
"""The failures before which the upstream saw nothing, or says so: all that a streamed body allows."""
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
CONDITIONS: Final = tuple(dict.fromkeys([*_FAILURES, *_CODES, *_STATUSES]))
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

    Another endpoint is tried first, where there is one. A body that did not come whole with its head cannot be sent
    twice: such a request is tried again only after ``connect-failure`` and ``refused-stream``, as far as ``on`` has
    them, while no piece of its body was taken, and it has no ``per_try_timeout``.
    """

    on: tuple[str, ...] = attrs.field(
        default=("connect-failure", "refused-stream"), validator=_known
    )
    """``connect-failure``, ``refused-stream`` (nothing was done yet: safe for every request); ``reset`` (these, and
    no answer came); ``deadline-exceeded`` (of one try) and ``unavailable`` (no endpoint), which also stand for
    responses of that neutral status, as ``resource-exhausted``, ``internal``, ``cancelled`` and ``status-<any>`` do;
    of web responses ``gateway-error`` (502, 503, 504), ``5xx`` (both with every failure), ``retriable-4xx`` (409)."""
    statuses: tuple[int, ...] = ()
    """The protocol's own codes of responses after which to retry as well."""
    attempts: int = attrs.field(default=1, validator=[ge(1), le(100)])
    """Retries at most, after the first try."""
    per_try_timeout: Duration | None = attrs.field(
        default=None, validator=optional(gt(Duration(0.0)))
    )
    """Until a try has its response head; then it counts as ``deadline-exceeded``. None: only the route's timeout."""
    back_off: BackOff = BackOff()
    """How long to wait before each retry."""

    _failures: frozenset[str] = attrs.field(init=False, eq=False, repr=False)
    _codes: frozenset[int] = attrs.field(init=False, eq=False, repr=False)
    _neutral: frozenset[Status] = attrs.field(init=False, eq=False, repr=False)
    _draw: Callable[[], float] = attrs.field(
        default=random.random, init=False, eq=False, repr=False
    )

    def __attrs_post_init__(self) -> None:
        if not self.on and not self.statuses:
            raise ValueError("needs a condition in `on`, or a code in `statuses`")
        self._failures = _union(_FAILURES, self.on)
        self._codes = frozenset(code for name in self.on for code in _CODES.get(name, ()))
        self._neutral = frozenset(_STATUSES[name] for name in self.on if name in _STATUSES)

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Return the first outcome that is not to be tried again, or the last one there is. Raises StreamError."""
        given = request.body
        body = request.body = given if isinstance(given, BytesBody) else OnceBody(given)
        head, origin, flags = request.head, request.origin, request.flags
        # A streamed body takes its time to come, and there is no second one to be in time for.
        timeout = self.per_try_timeout if isinstance(body, BytesBody) else None
        outcome = await _try(request, call_next, timeout)
        retry = 0
        while self._asks_for_retry(request, body, head, outcome):
            if retry >= self.attempts:
                request.flag("URX")
                break
            permits = request.permits  # of the cluster tried last; none: nobody counts
            if permits is not None and not permits.acquire():
                break
            retry += 1
            try:
                if isinstance(outcome, Response):
                    await outcome.aclose()
                await trio.sleep(self.back_off.wait(retry, self._draw()))
                # Filters inside may have changed the request: the next try starts from what the first was given.
                request.head, request.origin, request.flags = head, origin, flags
                request.body = body.replay()
                request.endpoint = None
                request.detail = ""
                request.local = False
                outcome = await _try(request, call_next, timeout)
            finally:
                if permits is not None:
                    permits.release()
        if isinstance(outcome, StreamError):
            raise outcome
        return outcome

    def _asks_for_retry(
        self, request: Request, body: BytesBody | OnceBody, head: RequestHead, outcome: Outcome
    ) -> bool:
        if request.response_started:
            return False
        if isinstance(body, OnceBody) and (
            body.taken or isinstance(outcome, Response) or outcome.condition not in _NOTHING_SENT
        ):
            return False
        if isinstance(outcome, StreamError):
            # A local overflow has no condition: more of the same is what it needs least.
            return outcome.condition in self._failures
        answer = outcome.head
        if "x-envoy-overloaded" in answer.headers:
            return False
        return answer.status in self._neutral or self._is_retriable_code(head, answer)

    def _is_retriable_code(self, head: RequestHead, answer: ResponseHead) -> bool:
        code = answer.native_status
        return code in self.statuses or (code in self._codes and isinstance(head.extra, Target))


async def _try(request: Request, call_next: Handler, timeout: float | None) -> Outcome:
    try:
        if timeout is None:
            return await call_next(request)
        with trio.move_on_after(timeout):
            return await call_next(request)
        return DeadlineExceeded(f"no response head in {timeout:g} s (retry.per_try_timeout)")
    except StreamError as error:
        return error


@final
class OnceBody(ReceiveChannel[bytes | Trailers]):
    """A body that did not come whole, and whether it can still be sent from its start."""

    __slots__ = ("inner", "taken")

    inner: Body
    """The body itself, for code that can do without the pieces."""
    taken: bool
    """Somebody has a piece of it: it is not whole any more."""

    def __init__(self, inner: Body) -> None:
        self.inner = inner
        self.taken = False

    def replay(self) -> OnceBody:
        """Return itself; right only as long as nothing was taken."""
        return self

    async def receive(self) -> bytes | Trailers:
        """Receive from the body itself."""
        piece = await self.inner.receive()
        self.taken = True
        return piece

    async def aclose(self) -> None:
        await self.inner.aclose()
