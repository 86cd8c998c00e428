"""Requests that a codec refuses before anybody could serve them: counted and logged as any other answer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from xproxy.connection.service import FilterChain
from xproxy.model.errors import StreamError
from xproxy.model.message import Local, RequestHead, ResponseHead
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import ConnectionFacts, Request, StreamControl

_UNKNOWN: Final = RequestHead(service="", method="")
"""What is known of a request that was not understood."""


class NoStream(StreamControl):
    """The control of a request that never became a stream."""

    deadline = math.inf

    def limit(self, deadline: float) -> None: ...

    def touch(self) -> None: ...

    def hold(self, count: int) -> None: ...

    def interruption(self) -> StreamError | None:
        return None

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> bool:
        return False

    async def send_interim(self, head: ResponseHead) -> None: ...


_NO_STREAM: Final = NoStream()


def count_refusal(
    chain: FilterChain, facts: ConnectionFacts, answer: ResponseHead, flag: str
) -> None:
    """Count a request that was refused with ``answer``, and tell who wants to know of such."""
    stats = chain.stats
    stats.downstream_rq_refused += 1
    statuses = stats.statuses
    statuses[answer.status] = statuses.get(answer.status, 0) + 1
    tell_of_refusal(chain, facts, answer, flag, _NO_STREAM)


def tell_of_refusal(
    chain: FilterChain,
    facts: ConnectionFacts,
    answer: ResponseHead,
    flag: str,
    control: StreamControl,
) -> None:
    """Tell who wants to know: no filter sees these requests."""
    for tell in chain.service.refusals:
        request = Request(_UNKNOWN, BytesBody(), facts, control, trio.current_time())
        request.record.flag(flag)
        request.record.detail = answer.extra.detail if isinstance(answer.extra, Local) else ""
        request.record.local = True
        tell(request, answer)
