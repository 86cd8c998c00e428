"""Hostile clients of every kind at once, a process of its own: ``python hostile.py PORT SECONDS SEED``.

Attacks on HTTP/2, slow clients in every state, malformed and random bytes, heads that are too long, packed bombs, and
clients that leave in the middle. Prints, as JSON, how many connections each kind made.
"""

from __future__ import annotations

import json
import math
import random
import socket
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio

ROOT: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.process.attacks import ATTACKS, attack  # noqa: E402  # the path is set above
from tests.process.slowloris import HEAD, STATES  # noqa: E402  # as above
from xproxy.registry import default_registry  # noqa: E402  # as above

SLOT: Final = 4.0
"""Seconds of each attack on HTTP/2; they take turns."""
SLOW: Final = 60
"""Slow connections held."""
PAUSE: Final = 0.05
"""Seconds between connections of the other kinds: they are to be many kinds, and not to take the whole machine."""
_BOMB_BYTES: Final = 15 << 20

counted: Counter[str] = Counter()


def bomb() -> bytes:
    """Return a call of Thrift, packed: 15 MiB in 15 KiB."""
    call = bytes.fromhex("80010001 00000004 6563686f 00000001 0b0001") + struct.pack(
        ">I", _BOMB_BYTES
    )
    packed = zlib.compress(call + bytes(_BOMB_BYTES + 1), 9)
    header = b"\0\1\1\0"  # binary, one transform: zlib
    frame = b"\x0f\xff\0\0\0\0\0\1\0\1" + header + packed
    return len(frame).to_bytes(4) + frame


def first_messages() -> list[bytes]:
    """Return what clients of the installed protocols say first."""
    found = [
        example
        for plugin in default_registry().codecs()
        for example in getattr(plugin, "examples", ())
        if isinstance(example, bytes)
    ]
    return [*found, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n"]


def spoilt(chance: random.Random, messages: list[bytes]) -> bytes:
    """Return a message with some bytes changed, cut out, or said twice; or nothing but chance."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randint(1, 4000))
    data = bytearray(chance.choice(messages) * chance.randint(1, 20))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data))
        match chance.randrange(3):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 8)]
            case _:
                data[at:at] = data[at : at + 50]
        if not data:
            return b"\0"
    return bytes(data)


async def say(port: int, data: bytes, *, patience: float, reset: bool) -> None:
    """Say something, read for a while what comes of it, and leave."""
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        await trio.sleep(1)
        return
    async with stream:
        with trio.move_on_after(patience):
            try:
                await stream.send_all(data)
                while await stream.receive_some(65536):
                    pass
            except trio.BrokenResourceError:
                return
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def again(name: str, once: Callable[[], Awaitable[None]]) -> None:
    """Do something for ever."""
    while True:
        counted[name] += 1
        await once()
        await trio.sleep(PAUSE)


async def hold(port: int, state: bytes) -> None:
    """Be one of the slow clients, until closed."""
    await say(port, state, patience=math.inf, reset=False)


async def turns(port: int) -> None:
    """Attack in one way after the other."""
    while True:
        for name in ATTACKS:
            outcome = await attack(port, name, 3, SLOT)
            counted[f"http2: {name}"] += outcome.connections


async def hostile(port: int, seconds: float, seed: int) -> None:
    """Be all of them for so long."""
    chance, messages, packed = random.Random(seed), first_messages(), bomb()
    too_long = HEAD + b"x-long: " + b"v" * 200_000

    async def malformed() -> None:
        await say(port, spoilt(chance, messages), patience=1.0, reset=chance.random() < 0.3)

    async def leaving() -> None:
        data = chance.choice(messages)
        await say(port, data[: chance.randrange(len(data))], patience=0.01, reset=True)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns, port)
            for number in range(SLOW):
                state = list(STATES.values())[number % len(STATES)]
                nursery.start_soon(again, "slow", partial(hold, port, state))
            for name, once in (
                ("malformed", malformed),
                ("malformed", malformed),
                ("leaving in the middle", leaving),
                ("long head", partial(say, port, too_long, patience=2.0, reset=False)),
                ("packed bomb", partial(say, port, packed * 3, patience=2.0, reset=False)),
            ):
                nursery.start_soon(again, name, once)


if __name__ == "__main__":
    trio.run(hostile, int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(counted))
