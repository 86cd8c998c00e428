"""What tests of whole takeovers have in common: an exchange before, one after, and what has become of it."""

from __future__ import annotations

import re
from typing import Final

from tests.live import GET, Live, Upstream, http_response
from tests.migration.takeover import Takeover
from xproxy.testing import Party, play

HEAD: Final = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
OK: Final = http_response(b"ok")


async def first(live: Live, up: Upstream, name: str = "client") -> tuple[Party, Party]:
    """Let one request through; its connections are idle afterwards."""
    client = await live.client(name)
    await client.send(GET)
    server = Party("upstream", await up.accept())
    await play(server << HEAD, server >> OK, client << OK)
    return client, server


async def exchange(client: Party, server: Party) -> None:
    await play(client >> GET, server << HEAD, server >> OK, client << OK)


def gone(found: Takeover) -> bool:
    """Whether everything went as it should."""
    assert found.given is not None
    assert found.taken is not None
    assert (found.taken.serve, found.taken.why) == (True, "")
    return (found.given.gone, found.given.why) == (True, "")


def moved(found: Takeover) -> dict[str, int]:
    assert found.given is not None
    return dict(found.given.tally.moved)
