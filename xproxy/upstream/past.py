"""An attempt that another process made, for who looks at the attempts of a request that goes on here."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from xproxy.connection.flowing import PastAttempt
from xproxy.model.address import Address
from xproxy.model.errors import StreamError
from xproxy.stream.ending import GIVEN_UP, AttemptEnding, Broke
from xproxy.stream.record import Attempted, RetryPermits


@attrs.frozen
class Place:
    """An endpoint, of which only the address is known."""

    address: Address


@attrs.frozen(eq=False)
class Elsewhere:
    """See Attempted. Times are the trio clock's here."""

    endpoint: Place
    previous: Attempted | None
    permits: RetryPermits
    began: float
    answered: float | None
    ended: float | None
    how: AttemptEnding | None
    failed: bool

    async def aclose(self) -> None:
        """See Attempted: it holds nothing."""


def past(attempts: Sequence[PastAttempt], permits: RetryPermits, now: float) -> Elsewhere | None:
    """Return the last of these, which are over, with those before it. Raises ValueError for a wrong address."""
    last: Elsewhere | None = None
    for one in attempts:
        last = Elsewhere(
            endpoint=Place(Address.parse(one.endpoint)),
            previous=last,
            permits=permits,
            began=now - one.began,
            answered=None if one.answered is None else now - one.answered,
            ended=now - (one.ended or 0.0),
            how=Broke(StreamError(one.detail)) if one.failed else GIVEN_UP,
            failed=one.failed,
        )
    return last
