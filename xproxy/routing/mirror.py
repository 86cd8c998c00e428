"""Mirroring: copies of requests go to another cluster, and whoever waits for the answer does not notice.

A copy has a deadline and a stream of its own; its answer is read and dropped. What a body brings in pieces is kept up
to a bound and copied when it has ended. (semantics of Envoy's ``request_mirror_policies``)
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, final

import attrs
import trio

from xproxy.config.routing import MILLION, MirrorConfig
from xproxy.model.authority import split_port
from xproxy.model.errors import StreamError
from xproxy.model.frames import Trailers
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.routing.beside import Beside
from xproxy.stream.body import BytesBody
from xproxy.stream.ending import BodyEnding, Complete
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.stream.held import uncounted
from xproxy.stream.links import Note
from xproxy.stream.record import NO_SUBSET
from xproxy.stream.wrapped import WrappedBody

SUFFIX: Final = "-shadow"
"""What the host of a copied web request gets (semantics of Envoy)."""

_logger = logging.getLogger(__name__)


@final
class OwnStream:
    """The StreamControl of a copy: nobody waits for it."""

    __slots__ = ("deadline",)

    def __init__(self) -> None:
        self.deadline = math.inf

    def limit(self, deadline: float) -> None:
        self.deadline = min(self.deadline, deadline)

    def touch(self) -> None:
        """Only its deadline counts."""

    def hold(self, count: int) -> None:
        """Bounded by ``max_concurrent`` and ``max_body_bytes``."""

    def interruption(self) -> StreamError | None:
        return None

    def start_soon(self, work: Callable[[], Awaitable[None]]) -> bool:
        return False

    async def send_interim(self, head: ResponseHead) -> None:
        """Drop it."""


@final
class Mirror:
    """Copies requests of one route to one cluster."""

    __slots__ = ("_below", "_beside", "_draw", "_route", "active", "config")

    def __init__(
        self,
        config: MirrorConfig,
        route: str,
        beside: Beside,
        draw: Callable[[int], int] = random.randrange,
    ) -> None:
        """``draw``: gives 0 … n - 1 for n, each as often."""
        self.config: Final = config
        self.active = 0
        """Copies in flight."""
        self._below = round(config.percent * MILLION / 100)
        self._route = route
        self._beside = beside
        self._draw = draw

    def wants(self, request: Request) -> bool:
        """Whether this request is to be copied, as far as that is known before its body; one draw for each."""
        if request.connection.traits.headless or request.head.tunnel:
            return False
        if self._below < MILLION and self._draw(MILLION) >= self._below:
            return False
        if self.active >= self.config.max_concurrent:
            self._beside.stats.mirror_overflow += 1
            return False
        return True

    def copy(self, request: Request) -> Request:
        """Return the copy, without a body."""
        copy = request.fork(BytesBody())
        copy.connection = attrs.evolve(request.connection, downstream=None, share=uncounted())
        copy.stream = OwnStream()
        copy.record.cluster = self.config.cluster
        copy.record.subset, copy.record.wish = NO_SUBSET, None
        head = _shadow(copy.head)
        if head is not copy.head:
            copy.head, copy.origin = head, None
        return copy

    def send(self, copy: Request, body: BytesBody, handler: Handler) -> None:
        """Send a copy with this body, unless that is too much. Never blocks, never raises."""
        stats = self._beside.stats
        if len(body.data) > self.config.max_body_bytes:
            self.too_large()
        elif self.active >= self.config.max_concurrent:
            stats.mirror_overflow += 1
        else:
            copy.body = body
            if self._beside.start_soon(partial(self._exchange, copy, handler)):
                self.active += 1
                stats.mirror_active += 1
                stats.mirror_total[self._route] = stats.mirror_total.get(self._route, 0) + 1

    def too_large(self) -> None:
        """Count a request that is not copied."""
        self._beside.stats.mirror_too_large += 1

    async def _exchange(self, copy: Request, handler: Handler) -> None:
        stats = self._beside.stats
        copy.stream.limit(trio.current_time() + self.config.timeout)
        try:
            with trio.move_on_after(self.config.timeout) as scope:
                await _drop(await handler(copy))
            if scope.cancelled_caught:
                stats.mirror_timeout += 1
        except StreamError:
            stats.mirror_failed += 1
        except Exception:
            # A plugin's bug: the copy is nobody's business.
            stats.mirror_failed += 1
            _logger.exception("a copy of a request failed")
        finally:
            self.active -= 1
            stats.mirror_active -= 1


async def _drop(response: Response) -> None:
    # To its end, so that its connection can be used again.
    try:
        if type(response.body) is not BytesBody:
            while True:
                await response.body.receive()
    except trio.EndOfChannel:
        pass
    finally:
        await response.aclose()


def _shadow(head: RequestHead) -> RequestHead:
    if not isinstance(head.extra, Target):
        return head
    host, port = split_port(head.service)
    if not host or host.endswith("]"):
        return head  # an address of IPv6 has no other name
    return attrs.evolve(head, service=f"{host}{SUFFIX}:{port}" if port else host + SUFFIX)


@final
class Mirroring:
    """A filter that has requests copied."""

    __slots__ = ("_handler", "_mirror")

    def __init__(self, mirror: Mirror, handler: Handler) -> None:
        """``handler``: the cluster that copies go to."""
        self._mirror = mirror
        self._handler = handler

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        """See Filter."""
        mirror = self._mirror
        if mirror.wants(request):
            body = request.body
            if isinstance(body, BytesBody):
                mirror.send(mirror.copy(request), body.replay(), self._handler)
            else:
                request.body = CopiedBody(request, mirror, self._handler)
        return call_next(request)


@final
class CopiedBody(WrappedBody):
    """A request body that is kept as it passes, and sent to the mirror when it has ended."""

    __slots__ = ("_copy", "_handler", "_hold", "_kept", "_mirror", "_size")

    def __init__(self, request: Request, mirror: Mirror, handler: Handler) -> None:
        super().__init__(request.body)
        self._copy = mirror.copy(request)
        self._hold = request.stream.hold
        self._mirror = mirror
        self._handler = handler
        self._kept: list[bytes] | None = []
        self._size = 0

    def piece(self, piece: bytes | Trailers) -> bytes | Trailers:
        """See WrappedBody."""
        if self._kept is not None and not isinstance(piece, Trailers):
            self._size += len(piece)
            if self._size > self._mirror.config.max_body_bytes:
                self._kept = None
                self._mirror.too_large()
            else:
                self._hold(len(piece))
                self._kept.append(piece)
        return piece

    def ended(self, how: BodyEnding) -> None:
        """See WrappedBody: what did not come whole is not copied."""
        kept, self._kept = self._kept, None
        if kept is not None and isinstance(how, Complete):
            body = BytesBody(b"".join(kept), how.trailers)
            self._mirror.send(self._copy, body, self._handler)

    def note(self) -> tuple[object | None, Note | None]:
        """See SupportsNote: in the other process the request goes on without its copy."""
        return self.inner, None
