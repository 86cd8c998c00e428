"""What ``rpcload serve`` answers with: the nonce of the request, then always the same letters."""

from __future__ import annotations

import functools

from bench.takeover.speakers.speaker import NONCE_BYTES


@functools.cache
def pattern(size: int) -> bytes:
    """Return what follows the nonce in an answer of ``size`` bytes."""
    return bytes(ord("a") + i % 26 for i in range(NONCE_BYTES, size))
