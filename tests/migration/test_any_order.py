"""Whatever happens to a serial connection in whatever order, its client sees what it sees without standing still.

Bytes that come and a drain while it stands still count from when it goes on; time does not pass for it; and a drain
of the process that it leaves is none of the other's.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from functools import partial
from typing import Final, TypeAlias

import attrs
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.migration.cuts import NEVER, Run, Scenario
from tests.migration.test_cuts import GET, POST, web
from tests.transport.ends import HERE, THERE, polling, trio_stream_of
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.standing import Moment, Standing
from xproxy.model.limits import Duration

TIMEOUTS: Final = TimeoutsConfig(
    idle=Duration(4), head=Duration(2.5), body=Duration(3), linger=Duration(1.5)
)
STREAM: Final = (
    GET % 1
    + GET % 2
    + b"\r\n"
    + POST % (3, b"content-length: 5\r\n")
    + b"hello"
    + GET % 4
    + POST % (6, b"transfer-encoding: chunked\r\n")
    + b"2\r\nab\r\n0\r\n\r\n"
    + GET % 7
)
Op: TypeAlias = tuple[str, float]
"""What happens, and for ``send`` how many bytes, for ``pass`` how many seconds."""
OPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 70)),
        st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0, 2.0, 3.0])),
        st.tuples(st.sampled_from(["freeze", "freeze", "thaw", "move", "drain"]), st.just(0)),
    ),
    max_size=14,
)


@attrs.define
class Seen:
    """What the client saw."""

    got: bytearray = attrs.field(factory=bytearray)
    over: bool = False
    """It saw the end."""


async def _look(stream: trio.SocketStream, seen: Seen) -> None:
    try:
        while piece := await stream.receive_some():
            seen.got += piece
    except trio.BrokenResourceError:
        pass
    seen.over = True


async def _play(ops: Sequence[Op]) -> tuple[dict[int, Seen], list[Op]]:
    """Play ``ops``; return what happened to the connection, as it looked to itself, and what was seen after how much.

    Nothing happens to one that stands still.
    """
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    effective: list[Op] = []
    held: list[Op] = []
    at = 0
    seen = Seen()
    after: dict[int, Seen] = {0: Seen()}
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    client = trio_stream_of(theirs)
    async with polling() as poller, client, trio.open_nursery() as nursery:
        run = Run(Scenario(_no_script, origin, timeouts=TIMEOUTS), NEVER, poller, nursery)
        nursery.start_soon(run.timers.run)
        nursery.start_soon(_look, client, seen)
        run.serve(poller.add(ours, HERE, THERE))
        frozen: Moment | None = None
        await wait_all_tasks_blocked()
        for name, amount in [*ops, ("thaw", 0), ("pass", 20.0)]:
            happened: list[Op] = []
            if name == "send":
                data = STREAM[at : at + int(amount)]
                at += len(data)
                try:
                    await client.send_all(data)
                except trio.BrokenResourceError:
                    pass  # it has ended
                happened.append((name, amount))
            elif name == "pass":
                clock.jump(amount)
                if frozen is None:
                    happened.append((name, amount))
            elif name == "drain":
                run.driver.drain()
                happened.append((name, amount))
            elif name == "freeze" and frozen is None:
                if run.driver.standing is Standing.IDLE:
                    frozen = run.driver.freeze()
            elif name in ("thaw", "move") and frozen is not None:
                drains = [op for op in held if op[0] == "drain"]
                if name == "thaw":
                    run.driver.thaw()
                    effective += drains
                else:
                    await run.move(frozen)
                effective += [op for op in held if op[0] != "drain"]
                held.clear()
                frozen = None
            (held if frozen is not None else effective).extend(happened)
            await wait_all_tasks_blocked()
            if frozen is None:
                after[len(effective)] = Seen(bytearray(seen.got), seen.over)
        assert seen.over, "no timeout ended it"
        for connection in run.idle:
            connection.close()
        nursery.cancel_scope.cancel()
    return after, effective


async def origin(stream: trio.abc.Stream, got: bytearray) -> None:
    """As ``web``; a request that breaks off ends it."""
    with contextlib.suppress(trio.BrokenResourceError):
        await web(stream, got)


async def _no_script(_client: object) -> None:
    raise NotImplementedError


@settings(max_examples=150, deadline=None)
@given(OPS)
@example([("send", 9), ("freeze", 0), ("drain", 0), ("thaw", 0), ("pass", 2.0), ("send", 70)])
@example([("freeze", 0), ("drain", 0), ("send", 70), ("thaw", 0), ("send", 70)])
@example([("send", 31), ("freeze", 0), ("drain", 0), ("move", 0), ("pass", 3.0), ("send", 70)])
@example([("send", 70), ("pass", 3.0), ("freeze", 0), ("pass", 3.0), ("move", 0), ("pass", 0.5)])
def test_standing_still_and_moving_change_nothing(ops: list[Op]) -> None:
    after, effective = trio.run(partial(_play, ops), clock=MockClock())
    expected, as_it_was = trio.run(partial(_play, effective[:-1]), clock=MockClock())
    assert as_it_was == effective
    assert after == {count: expected[count] for count in after}
