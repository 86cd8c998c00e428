"""Endpoints of one's own: what a command prints, an address a line, asked again and again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import attrs
import trio

from xproxy.api import Address, Asked, EndpointConfig

PATIENCE = 10.0
"""Seconds that the command may take."""


@attrs.frozen(kw_only=True)
class Command:
    """Endpoints are the lines that a command prints."""

    command: tuple[str, ...]
    """The program and its arguments; no shell."""
    seconds: float = attrs.field(default=5.0, validator=attrs.validators.ge(0.1))
    """From one answer to the next question."""

    async def discover(self, asked: Asked) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        """Give all endpoints each time. What goes wrong is raised: the last answer stays, and it is asked later."""
        while True:
            yield await self._ask()
            await trio.sleep(self.seconds)

    async def _ask(self) -> list[EndpointConfig]:
        with trio.fail_after(PATIENCE):
            done = await trio.run_process(self.command, capture_stdout=True)
        lines = done.stdout.decode().split()
        return [EndpointConfig(address=Address.parse(line)) for line in lines]
