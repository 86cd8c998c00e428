"""What to say of a request on which a filter, a handler or a body failed: who it was, where, and on which request.

Nothing of this costs anything until something fails: then the stack tells.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import CodeType, FrameType
from typing import Final

from xproxy.model.message import Local, ResponseHead
from xproxy.model.status import Status
from xproxy.stream.chain import FilterMisused, filter_name
from xproxy.stream.exchange import Request

_logger = logging.getLogger(__name__)

INTERNAL_ERROR: Final = ResponseHead(
    status=Status.INTERNAL, extra=Local(detail="internal error in the proxy")
)
_MOST_TARGET: Final = 256
"""Characters of a request's target in a log line."""

Refusal = Callable[[Request, ResponseHead], None]


def describe(request: Request) -> str:
    """Name a request in few words, without what may be secret in it (a query, a user)."""
    head, facts = request.head, request.connection
    service = head.service.rpartition("@")[2]
    target = f"{head.method} {service}{head.path.partition('?')[0]}".strip()
    if len(target) > _MOST_TARGET:
        target = f"{target[:_MOST_TARGET]}…"
    route = f", route {request.record.route}" if request.record.route else ""
    return f"{facts.protocol} request {target!r} (listener {facts.listener}{route})"


async def handler_failed(request: Request, error: Exception, refusals: Sequence[Refusal]) -> None:
    """Log that what should have answered ``request`` failed, once; release what it held.

    ``refusals``: who is told if the request is in no access log yet.
    """
    request.record.local = True
    request.record.outcome = Status.INTERNAL
    request.record.detail = failure_detail(error)
    if isinstance(error, FilterMisused):
        _logger.error("%s; on a %s", error, describe(request))
    else:
        _logger.error("%s failed on a %s", culprit(error), describe(request), exc_info=error)
    for unawaited in _unawaited(error):
        unawaited.close()
    attempt = request.record.attempt
    if attempt is not None:
        try:
            await attempt.aclose()
        except Exception:  # the request is answered all the same
            _logger.exception("a response cannot be released")
    if not request.record.logged:
        for tell in refusals:
            tell(request, INTERNAL_ERROR)


def body_failed(request: Request, error: BaseException) -> None:
    """Log that a body, or work beside a stream, failed; once."""
    request.record.outcome = Status.INTERNAL
    _logger.error("a body failed on a %s%s", describe(request), _whose(error), exc_info=error)


def failure_detail(error: BaseException) -> str:
    """Return what an access log says of an unexpected failure: what it is, and nothing that came from a peer."""
    leaf = _leaf(error)
    return str(leaf) if isinstance(leaf, FilterMisused) else type(leaf).__name__


def culprit(error: BaseException) -> str:
    """Name the filter or handler that an exception comes from."""
    for frame in reversed(list(_frames(error))):
        cls = _class_of(frame, "__call__")
        if cls is not None and frame.f_code.co_argcount == 3:
            return f"filter {filter_name(cls)}"
        if cls is not None and frame.f_code.co_argcount == 2:
            return f"handler {filter_name(cls)}"
    return "a filter or handler"


def _whose(error: BaseException) -> str:
    found = [_class_of(frame, "receive") for frame in _frames(error)]
    classes = [cls for cls in found if cls is not None]
    theirs = [cls for cls in classes if not cls.__module__.startswith("xproxy.")]
    for cls in reversed(theirs or classes):
        return f": {cls.__module__}.{cls.__qualname__}"
    return ""


def _class_of(frame: FrameType, method: str) -> type | None:
    """Return whose method of this name the frame runs."""
    code: CodeType = frame.f_code
    if code.co_name != method or not code.co_varnames:
        return None
    owner = type(frame.f_locals.get(code.co_varnames[0]))
    return owner if getattr(getattr(owner, method, None), "__code__", None) is code else None


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _frames(error: BaseException) -> Iterator[FrameType]:
    """Give the frames from the outermost to where the (first) exception comes from."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield frame
    if isinstance(error, BaseExceptionGroup):
        yield from _frames(error.exceptions[0])


def _unawaited(error: BaseException) -> list[Coroutine[object, None, object]]:
    """Return the calls that a filter made and never awaited: of these a warning would come, too late to be of use."""
    return [
        value
        for frame in _frames(error)
        if _class_of(frame, "__call__") is not None
        for value in frame.f_locals.values()
        if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED
    ]
