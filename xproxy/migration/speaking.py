"""What the old process has to say, one after the other, over the channel."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import trio

from xproxy.migration.faults import fault
from xproxy.migration.giving import STALL
from xproxy.migration.messages import Done, Message, Offer, Withdraw, pack
from xproxy.transport.channel import Channel, NotSent, Unheard

Offered: TypeAlias = Callable[[int], tuple[bytes, list[int]] | None]
"""Gives what was written of an offer, by its number, and the descriptors that go along; None: it was withdrawn."""
Unsent: TypeAlias = Callable[[Message, bytes | None], None]
"""Is told of a message that the channel did not take, and of what was beside it."""

_AGAIN: Final = 0.1
"""Seconds until WITHDRAW is said again where the kernel had no memory for it."""


class Speaking:
    """One task may ``run`` it, or ``flush`` it; whoever is cancelled in there has sent nothing of what is first."""

    def __init__(self, channel: Channel, offered: Offered, unsent: Unsent) -> None:
        self._channel = channel
        self._offered = offered
        self._unsent = unsent
        self._waiting: deque[tuple[Message, bytes | None] | None] = deque()
        # None: stop receiving.
        self._wanted = trio.Event()

    @property
    def silent(self) -> bool:
        """Everything was said."""
        return not self._waiting

    def say(self, message: Message, state: bytes | None = None) -> None:
        """Say this after what waits. An Offer's state is asked for when it is its turn."""
        self._waiting.append((message, state))
        self._wanted.set()

    def stop_receiving(self) -> None:
        """After that take nothing any more that the other side sends."""
        self._waiting.append(None)
        self._wanted.set()

    async def run(self, silent: Callable[[], None]) -> None:
        """Say what comes, until cancelled; ``silent`` is called each time when everything was said."""
        while True:
            await self.flush()
            silent()
            self._wanted = trio.Event()
            await self._wanted.wait()

    async def flush(self) -> None:
        """Say what waits. A checkpoint only where the channel has no room for it."""
        while self._waiting:
            first = self._waiting[0]
            if first is None:
                self._channel.stop_receiving()
            else:
                try:
                    await self._send(*first)
                except Unheard:
                    pass  # it has gone, or is about to say why: what is received tells
            self._waiting.popleft()

    async def _send(self, message: Message, state: bytes | None) -> None:
        descriptors: list[int] = []
        within = STALL
        if isinstance(message, Offer):
            offered = self._offered(message.number)
            if offered is None:
                return  # it was withdrawn before it was sent
            state, descriptors = offered
        elif isinstance(message, Withdraw):
            # Nothing that was offered may go on here before the other side can know.
            within = math.inf
            fault("give.withdraw")
        elif isinstance(message, Done):
            fault("give.done")
        while True:
            try:
                if isinstance(message, Offer) and fault("give.offered"):
                    raise NotSent("on purpose")
                await self._channel.send(pack(message), descriptors, state, within=within)
            except NotSent:
                if isinstance(message, Withdraw):
                    # An end without it would make all that was offered the other side's.
                    await trio.sleep(_AGAIN)
                    continue
                self._unsent(message, state)
            except trio.TooSlowError:
                self._unsent(message, state)
            return
