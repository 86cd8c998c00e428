"""Plugins as somebody else might write them on a bad day."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from random import Random
from typing import ClassVar

import attrs
import trio

from xproxy.api import (
    BodyEnding,
    CarriedAs,
    Endpoint,
    Handler,
    Note,
    Picker,
    RateLimited,
    Request,
    Response,
    StateRecord,
    StateSchema,
    Trailers,
    WrappedBody,
    note_of,
    state_field,
    state_kinds,
)
from xproxy.registry import FILTERS, Entry


class RaisingBalancer:
    """Cannot be made."""

    def __init__(self, random: Random) -> None:
        raise RuntimeError("no licence")

    def picker(self, endpoints: Sequence[Endpoint], previous: Picker | None) -> Picker:
        """Never be asked."""
        raise NotImplementedError


@attrs.frozen(kw_only=True)
class StartFails:
    """A filter whose background task fails before it is ready."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        raise OSError("no such device")

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        return call_next(request)


@attrs.frozen(kw_only=True)
class WorkFails:
    """A filter whose background task fails later."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        raise ValueError("lost my notes")

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        return call_next(request)


@attrs.frozen
class _Used:
    used: int


_USED = StateSchema(
    "tests.quota", 1, StateRecord(_Used, state_field("used", state_kinds.number(0, 2**32)))
)


@attrs.define(kw_only=True, eq=False)
class Quota:
    """A filter that lets so many requests through in all, and knows how many they were in the process before."""

    of: str
    most: int
    version: int = 1
    reads: tuple[int, ...] = ()
    fails: str = ""
    """A method that fails."""
    used: int = attrs.field(default=0, init=False)

    def __call__(self, request: Request, call_next: Handler) -> Awaitable[Response]:
        if self.used >= self.most:
            raise RateLimited(f"the quota of {self.of} is used up")
        self.used += 1
        return call_next(request)

    def _may_fail(self, method: str) -> None:
        if self.fails == method:
            raise RuntimeError("lost my notes")

    def carried_as(self) -> CarriedAs:
        """See SupportsCarry."""
        self._may_fail("carried_as")
        return CarriedAs(
            kind="tests.quota",
            name=self.of,
            version=self.version,
            reads=self.reads,
            settings=self.most,
        )

    def carry(self) -> bytes:
        """See SupportsCarry."""
        self._may_fail("carry")
        return _USED.pack(_Used(self.used)) if self.used else b""

    def resume(self, data: bytes) -> None:
        """See SupportsCarry."""
        self._may_fail("resume")
        self.used = _USED.unpack(data).used


QUOTA = Entry.parse(FILTERS, "quota", "tests.foreign:Quota", "tests", "0")


class Counted(WrappedBody):
    """A response body whose bytes are counted, and which can say so."""

    size = 0

    def piece(self, piece: bytes | Trailers) -> bytes | Trailers:
        if isinstance(piece, bytes):
            self.size += len(piece)
        return piece

    def ended(self, how: BodyEnding) -> None:
        Sizes.ended.append((type(how), self.size))

    def note(self) -> tuple[object, Note]:
        return self.inner, note_of(Sizes, self.size)


@attrs.frozen
class Sizes:
    """Counts bytes of responses, wherever they end."""

    ended: ClassVar[list[tuple[type, int]]] = []

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        response = await call_next(request)
        response.body = Counted(response.body)
        return response

    def relink(self, request: Request, response: Response, fields: tuple[object, ...]) -> None:
        match fields:
            case (int() as size,):
                response.body = body = Counted(response.body)
                body.size = size
            case _:
                raise ValueError("not what a Counted says")


@attrs.frozen
class Silent:
    """Wraps responses in a body that says nothing of itself."""

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        response = await call_next(request)
        response.body = WrappedBody(response.body)
        return response
