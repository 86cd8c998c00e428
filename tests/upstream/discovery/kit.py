"""What tests of discoveries have in common."""

from __future__ import annotations

import re

from tests.live import GET
from xproxy.testing import Party


async def get(client: Party, request: bytes = GET) -> bytes:
    """Make a request and return the status code and the body of the answer."""
    await client.send(request)
    head = await client.expect(re.compile(rb"HTTP/1.1 (\d+) .*?\r\n\r\n", re.DOTALL))
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert length is not None
    body = await client.expect(re.compile(rb".{%b}" % length[1], re.DOTALL))
    return head[9:12] + b" " + body
