"""Health check of a Redis server (RESP2: redis.io/docs/reference/protocol-spec)."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.transport.stream import write_all
from xproxy.upstream.health.api import CheckFailed, Passed, Probe

_MOST_BYTES: Final = 1024
_PING: Final = b"*1\r\n$4\r\nPING\r\n"


@attrs.frozen(kw_only=True)
class Redis:
    """``PING``, or whether a key is there. Any other answer makes an endpoint unhealthy at once."""

    key: str = attrs.field(default="", metadata={"secret": False})
    """With a key: ``EXISTS``, and the endpoint is healthy if it is missing: so a server can be taken out by hand."""

    async def __call__(self, probe: Probe) -> Passed | None:
        """See HealthCheck."""
        key = self.key.encode()
        question, good = _PING, b"+PONG"
        if key:
            question, good = b"*2\r\n$6\r\nEXISTS\r\n$%d\r\n%b\r\n" % (len(key), key), b":0"
        stream = await probe.connect()
        await write_all(stream, question)
        line = b""
        while not line.endswith(b"\r\n"):
            more = await stream.read()
            line += more
            if not more or len(line) > _MOST_BYTES:
                raise CheckFailed("the endpoint did not answer a whole line")
        if line[:-2] != good:
            said = "that the key is there" if line == b":1\r\n" else "something else"
            raise CheckFailed(f"answered {said}", at_once=True)
        return None
