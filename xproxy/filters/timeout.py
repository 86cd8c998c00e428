"""Timeout: how long a request may take from here on."""

from __future__ import annotations

import attrs
import trio
from attrs.validators import gt, optional

from xproxy.model.errors import DeadlineExceeded
from xproxy.model.limits import Duration
from xproxy.stream.exchange import Handler, Request, Response


@attrs.frozen(kw_only=True)
class Timeout:
    """Bound the time from here to the response head, and to the end of the response.

    Inside ``retry`` the head's time is for each try; outside it is for all of them together.
    """

    seconds: Duration | None = attrs.field(default=None, validator=optional(gt(Duration(0.0))))
    """Until the response head has come."""
    whole: Duration | None = attrs.field(default=None, validator=optional(gt(Duration(0.0))))
    """Until the response has ended. A route's own timeout still holds if it is earlier."""

    def __attrs_post_init__(self) -> None:
        if self.seconds is None and self.whole is None:
            raise ValueError("needs seconds or whole")

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """Raises DeadlineExceeded if the head is late; the stream's driver does for the rest."""
        if self.whole is not None:
            request.stream.limit(trio.current_time() + self.whole)
        if self.seconds is None:
            return await call_next(request)
        with trio.move_on_after(self.seconds):
            return await call_next(request)
        raise DeadlineExceeded(f"no response head in {self.seconds:g} s (timeout.seconds)")
