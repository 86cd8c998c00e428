"""Plugins as somebody else might write them on a bad day."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from random import Random

import attrs
import trio

from xproxy.api import Endpoint, Handler, Picker, Request, Response


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
