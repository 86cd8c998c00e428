"""Invariant: whatever is said in a takeover is understood or a ValueError, and both sides come to an end.

The first byte chooses: a message, what is written of a connection, or what the other process says, one message after
another, to the side that gives or that takes. Then no connection that was offered is in two hands, or in none.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from typing import Final

from fuzz.targets import Mutator, Seed, Target
from xproxy.connection.standing import Moment
from xproxy.connection.wire import Parts
from xproxy.migration import giving, taking
from xproxy.migration.giving import Giving, Timer
from xproxy.migration.messages import (
    Accepting,
    Carry,
    Counts,
    Done,
    Hello,
    Message,
    Offer,
    Ready,
    Refused,
    Stopped,
    Taken,
    Withdraw,
    pack,
    unpack,
)
from xproxy.migration.packing import Downstream, read
from xproxy.migration.packing import pack as pack_state
from xproxy.migration.taking import Taking
from xproxy.model.address import Address
from xproxy.model.limits import Limits
from xproxy.proxy.adopting import Described
from xproxy.registry import Registry
from xproxy.testing.subject import Broken

_MESSAGE, _STATE, _GIVES, _TAKES = range(4)
_HELLO: Final = Hello(versions=(1,), software="fuzz")
_LAST: Final = Carry(kind="", name="", version=0, last=True)
_HERE: Final = Address("127.0.0.1", 80)


def check(data: bytes) -> None:
    """Raise Broken where the invariant does not hold."""
    if not data:
        return
    kind, data = data[0] % 4, data[1:]
    if kind == _MESSAGE:
        _one(data)
    elif kind == _STATE:
        _state(data)
    elif kind == _GIVES:
        _gives(data)
    else:
        _takes(data)


def _one(data: bytes) -> None:
    try:
        message = unpack(data)
    except ValueError:
        return
    if message is not None and unpack(pack(message)) != message:
        raise Broken(f"{message} does not come back")


def _state(data: bytes) -> None:
    sockets: Sequence[socket.socket] = ()
    try:
        value = read(data, sockets, missing=True)
    except ValueError:
        return
    again, given = pack_state(value)
    if given or pack_state(read(again))[0] != again:
        raise Broken("what was read is written otherwise")


def _script(data: bytes) -> list[Message | str]:
    """Read messages, each behind its length in a byte; what is none says what else happens."""
    found: list[Message | str] = []
    while data and len(found) < 64:
        piece, data = data[1 : 1 + data[0]], data[1 + data[0] :]
        try:
            message = unpack(piece)
        except ValueError as exc:
            found.append(str(exc))
        else:
            if message is not None:
                found.append(message)
    return found


def _gives(data: bytes) -> None:
    machine = Giving(_HELLO, canaries=2, window=2)
    ours, theirs = set[int](), set[int]()
    out = set[int]()

    def follow(actions: Sequence[giving.Action]) -> None:
        for action in actions:
            if isinstance(action, giving.Leave | giving.Thaw | giving.Keep):
                if action.number not in out:
                    raise Broken(f"{action} of what is not out")
                out.discard(action.number)
                (theirs if isinstance(action, giving.Leave) else ours).add(action.number)

    follow(machine.begin())
    for said in _script(data):
        if machine.room:
            number = machine.offer()
            out.add(number)
            follow(machine.offered())
        if isinstance(said, str):
            timer = list(Timer)[len(said) % 3]
            follow(machine.broken(said) if len(said) % 4 else machine.late(timer))
        else:
            follow(machine.hear(said))
        if out != machine.out:
            raise Broken(f"{out} are out, and it believes {machine.out}")
    follow(machine.withdraw("the script ends"))
    follow(machine.end())
    if not machine.over or out or ours & theirs:
        raise Broken(f"it ends in {machine.state} with {out} out")


def _takes(data: bytes) -> None:
    machine = Taking(_HELLO)
    pending, begun = set[int](), list[int]()

    def follow(actions: Sequence[taking.Action]) -> None:
        for action in actions:
            match action:
                case taking.Restore(offer=offer) | taking.Try(offer=offer):
                    pending.add(offer.number)
                    if offer.number % 3:
                        follow(machine.restored(offer.number))
                    else:
                        follow(machine.refuse(offer.number, "no"))
                case taking.Send(message=Taken(numbers=(number,))):
                    follow(machine.sent(number) if number % 5 else machine.unheard(number))
                case taking.Begin(number=number):
                    if number not in pending:
                        raise Broken(f"{number} begins, and was not made")
                    pending.discard(number)
                    begun.append(number)
                case taking.Drop(number=number):
                    pending.discard(number)

    follow(machine.begin())
    for said in _script(data):
        follow(machine.broken(said) if isinstance(said, str) else machine.hear(said))
    follow(machine.end())
    if not machine.over or pending:
        raise Broken(f"it ends in {machine.state} with {pending} pending")


def _spoken(kind: int, *messages: Message) -> bytes:
    packed = [pack(message) for message in messages]
    return bytes([kind]) + b"".join(bytes([len(piece)]) + piece for piece in packed)


def seeds() -> list[Seed]:
    """Return one of everything."""
    offers = [Offer(number=number, cut=1.0) for number in range(1, 7)]
    messages: list[Message] = [
        _HELLO,
        _LAST,
        Ready(listeners=("edge",)),
        Stopped(last_id=7),
        Accepting(),
        offers[0],
        Taken(numbers=(1, 2)),
        Refused(number=1, why="no", for_ever=False),
        Counts(left={"http1": 1}),
        Withdraw(why="a whim"),
        Done(),
    ]
    described = Described(
        id=1,
        age=1.0,
        listener="edge",
        address=_HERE,
        chain="main",
        codec="http1",
        options=(("a", (1, None)),),
        limits=Limits(),
        peer=_HERE,
        local=_HERE,
    )
    moment = Moment(parts=Parts(codec=b"c", stream=b"", unsent=b"u"))
    state, _ = pack_state(Downstream(described=described, moment=moment))
    ready = (_HELLO, Ready(), Accepting())
    taken = (Taken(numbers=(1,)), Refused(number=2, why=""), Taken(numbers=(3, 4)))
    return [
        *(Seed(type(one).__name__, bytes([_MESSAGE]) + pack(one)) for one in messages),
        Seed("state", bytes([_STATE]) + state),
        Seed("gives", _spoken(_GIVES, *ready, *taken)),
        Seed("gives, withdrawn", _spoken(_GIVES, *ready, Withdraw(why=""))),
        Seed("takes", _spoken(_TAKES, _HELLO, _LAST, Stopped(last_id=1), *offers, Done())),
        Seed(
            "takes, withdrawn",
            _spoken(_TAKES, _HELLO, _LAST, Stopped(last_id=1), *offers, messages[9]),
        ),
    ]


def mutate(data: bytes, chance: random.Random, general: Mutator) -> bytes:
    """Change a script message by message, so that the others are still some."""
    if not data or data[0] % 4 in (_MESSAGE, _STATE) or chance.random() < 0.2:
        return general(data, chance)
    pieces: list[bytes] = []
    rest = data[1:]
    while rest:
        pieces.append(rest[1 : 1 + rest[0]])
        rest = rest[1 + rest[0] :]
    if pieces:
        at = chance.randrange(len(pieces))
        how = chance.randrange(4)
        if how == 0:
            del pieces[at]
        elif how == 1:
            pieces.insert(at, chance.choice(pieces))
        elif how == 2:
            chance.shuffle(pieces)
        else:
            pieces[at] = general(pieces[at], chance)[:255]
    return data[:1] + b"".join(bytes([len(piece)]) + piece for piece in pieces if len(piece) < 256)


def target(_registry: Registry) -> Target:
    """Return the target."""
    return Target(name="channel", check=check, seeds=seeds, mutate=mutate)
