from __future__ import annotations

from collections.abc import Callable
from typing import cast

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.kit import Control, request_of
from xproxy.config.breakers import CircuitBreakersConfig
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.errors import ConnectFailed
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request
from xproxy.upstream.breaker import Breaker
from xproxy.upstream.queue import Queue, Waiter
from xproxy.upstream.shared_pool import OPEN, WAIT, MayOpen, SharedPool, at_once
from xproxy.upstream.stats import ClusterStats


@attrs.define
class Peer:
    """What a peer lets through: a codec's SupportsConcurrency."""

    most: int
    settled: bool = True
    blocked: bool = False
    open: int = 0

    @property
    def room(self) -> int:
        return self.most - self.open if self.settled else 0

    @property
    def saturated(self) -> bool:
        return self.room <= 0


@attrs.define
class Outbox:
    full: bool = False


@attrs.define(eq=False)
class Wire:
    concurrency: Peer | None
    outbox: Outbox = attrs.field(factory=Outbox)
    on_room: Callable[[], None] | None = None

    def changed(self) -> None:
        if self.on_room is not None:
            self.on_room()


@attrs.define(eq=False)
class Fake:
    """A connection as the pool sees it."""

    wire: Wire
    streams: int = 0
    serving: bool = True

    @property
    def watched(self) -> bool:
        return self.wire.on_room is not None

    def begin(self) -> None:
        self.streams += 1
        if self.wire.concurrency is not None:
            assert self.wire.concurrency.room > 0, "more than its peer takes"
            self.wire.concurrency.open += 1

    def end(self) -> None:
        self.streams -= 1
        if self.wire.concurrency is not None:
            self.wire.concurrency.open -= 1
        self.wire.changed()


def fake(most: int | None = None, *, settled: bool = True) -> Fake:
    return Fake(Wire(None if most is None else Peer(most, settled)))


def real(one: Fake) -> Multiplexed:
    return cast("Multiplexed", one)


def only(pool: SharedPool) -> object:
    return pool.only


def peer(one: Fake) -> Peer:
    assert one.wire.concurrency is not None
    return one.wire.concurrency


def pool_of(*fakes: Fake, wanted: int = 1, most: int = 1, may: MayOpen | None = None) -> SharedPool:
    """``most``: so many connections there may be."""
    breaker = Breaker(CircuitBreakersConfig(connection_share=100), ClusterStats(), "web")
    pool = SharedPool(Queue(breaker), wanted, may or (lambda usable, _: usable < most))
    for one in fakes:
        pool.add(real(one))
    return pool


def never(_usable: int, _request: Request) -> bool:
    return False


def always(_usable: int, _request: Request) -> bool:
    return True


EMPTY = request_of()
FULL = request_of(body=BytesBody(b"body"))


def test_without_a_connection_one_is_opened() -> None:
    assert pool_of().decide(EMPTY, always) is OPEN
    assert pool_of().decide(EMPTY, never) is WAIT


def test_the_least_busy_one_is_taken() -> None:
    busy, idle, spare = fake(), fake(), fake()
    busy.streams, idle.streams = 3, 1
    pool = pool_of(busy, idle, spare, wanted=2)
    assert pool.decide(EMPTY, never) is real(idle), (
        "those that were opened for a rush shall fall idle"
    )
    idle.serving = False
    assert pool.decide(EMPTY, never) is real(spare)


def test_as_many_as_are_wanted_are_opened_one_at_a_time() -> None:
    one = fake()
    pool = pool_of(one, wanted=2)
    assert pool.decide(EMPTY, always) is OPEN
    assert pool.decide(EMPTY, never) is real(one)
    pool.open()
    assert pool.decide(EMPTY, always) is real(one)


def test_where_all_are_full_another_one_is_opened_or_it_waits() -> None:
    full = fake(1)
    full.begin()
    pool = pool_of(full)
    assert pool.decide(EMPTY, always) is OPEN
    assert pool.decide(EMPTY, never) is WAIT


def test_a_body_does_not_wait_for_strangers_where_there_may_be_another_connection() -> None:
    one = fake(5)
    peer(one).blocked = True
    pool = pool_of(one)
    assert pool.decide(EMPTY, always) is real(one)
    assert pool.decide(FULL, always) is OPEN
    assert pool.decide(FULL, never) is real(one)
    assert not at_once(real(one), FULL)
    peer(one).blocked = False
    assert at_once(real(one), FULL)
    one.wire.outbox.full = True
    assert not at_once(real(one), EMPTY)


def test_what_need_not_be_chosen() -> None:
    first, second = fake(), fake()
    pool = pool_of(first)
    assert only(pool) is first
    pool.add(real(second))
    assert only(pool) is None
    pool.remove(real(first))
    assert only(pool) is second
    assert pool_of(fake(), wanted=2).only is None


@attrs.define(eq=False)
class Clients:
    """Requests on their way through a pool."""

    pool: SharedPool
    nursery: trio.Nursery
    may: MayOpen = never
    got: list[tuple[object, object]] = attrs.field(factory=list)
    """Who got what, in order."""
    failed: list[object] = attrs.field(factory=list)

    async def wait(self, name: object, request: Request = EMPTY) -> None:
        async def one() -> None:
            try:
                taken = await self.pool.wait(Waiter(request))
            except ConnectFailed:
                self.failed.append(name)
                return
            self.got.append((name, taken))
            if taken is not None:
                cast("Fake", taken).begin()

        self.nursery.start_soon(one)
        await wait_all_tasks_blocked()


async def test_places_go_to_those_who_wait_and_no_further() -> None:
    one = fake(2)
    one.begin()
    one.begin()
    pool = pool_of(one)
    async with trio.open_nursery() as nursery:
        clients = Clients(pool, nursery)
        for name in "abc":
            await clients.wait(name)
        assert only(pool) is None
        one.end()
        # Who comes in that moment does not get what was given to somebody else.
        assert pool.decide(EMPTY, never) is WAIT
        await wait_all_tasks_blocked()
        assert clients.got == [("a", one)]
        peer(one).most = 4
        one.wire.changed()
        await wait_all_tasks_blocked()
        assert {name for name, _ in clients.got} == set("abc")
        assert only(pool) is one
        assert not one.watched, "nobody wants to know any more"


async def test_who_waits_is_given_leave_to_open_one_at_a_time() -> None:
    one = fake(1)
    one.begin()
    pool = pool_of(one, may=always)
    async with trio.open_nursery() as nursery:
        clients = Clients(pool, nursery)
        for name in "abc":
            await clients.wait(name)
        one.wire.changed()
        assert pool.decide(EMPTY, always) is WAIT
        await wait_all_tasks_blocked()
        assert clients.got == [("a", None)]
        opening = pool.open()
        new = fake(2, settled=False)
        pool.add(real(new), opening)
        await wait_all_tasks_blocked()
        assert len(clients.got) == 1, "it is not known yet how many it takes"
        peer(new).settled = True
        new.wire.changed()
        await wait_all_tasks_blocked()
        assert sorted(clients.got[1:], key=str) == [("b", new), ("c", new)]
        assert opening.over.is_set()


async def test_where_one_cannot_be_opened_those_who_wait_fail_unless_there_is_another() -> None:
    for others in (0, 1):
        pool = pool_of(may=never)
        async with trio.open_nursery() as nursery:
            clients = Clients(pool, nursery)
            pool.open()
            await clients.wait("a")
            await clients.wait("b")
            if others:
                pool.add(real(full := fake(1)))
                full.begin()
            pool.failed(ConnectFailed("nobody there"))
            await wait_all_tasks_blocked()
            assert sorted(clients.failed, key=str) == ([] if others else ["a", "b"])
            nursery.cancel_scope.cancel()


async def test_who_opened_one_and_gave_up_leaves_it_to_the_next() -> None:
    pool = pool_of(may=always)
    async with trio.open_nursery() as nursery:
        clients = Clients(pool, nursery)
        pool.open()
        await clients.wait("a")
        pool.failed(None)
        await wait_all_tasks_blocked()
        assert clients.got == [("a", None)]


async def test_a_connection_that_takes_no_more_is_left_for_another() -> None:
    """As after a GOAWAY: nobody waits for it, though it may take long to end."""
    one = fake(1)
    one.begin()
    pool = pool_of(one, may=lambda usable, _: usable == 0)
    async with trio.open_nursery() as nursery:
        clients = Clients(pool, nursery)
        await clients.wait("a")
        one.serving = False
        one.wire.changed()
        await wait_all_tasks_blocked()
        assert clients.got == [("a", None)]


async def test_what_can_pass_a_body_that_waits_for_a_window_does() -> None:
    one = fake(1)
    one.begin()
    pool = pool_of(one)
    pool.open()
    async with trio.open_nursery() as nursery:
        clients = Clients(pool, nursery)
        await clients.wait("body", FULL)
        await clients.wait("none", EMPTY)
        peer(one).blocked = True
        one.end()
        await wait_all_tasks_blocked()
        assert clients.got == [("none", one)]
        nursery.cancel_scope.cancel()


async def test_who_gives_up_is_not_watched_for() -> None:
    one = fake(1)
    one.begin()
    pool = pool_of(one)
    async with trio.open_nursery() as nursery:
        await Clients(pool, nursery).wait("a")
        assert one.watched
        nursery.cancel_scope.cancel()
    assert one.wire.on_room is None
    assert only(pool) is one


async def test_a_turn_that_was_taken_before_is_kept() -> None:
    one = fake(1)
    one.begin()
    pool = pool_of(one)
    early = pool.waiter(EMPTY)
    got: list[str] = []

    async def wait() -> None:
        await pool.wait(early)
        got.append("early")

    async with trio.open_nursery() as nursery:
        clients = Clients(pool, nursery)
        await clients.wait("a")
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        one.end()
        await wait_all_tasks_blocked()
        assert (got, clients.got) == (["early"], [])
        nursery.cancel_scope.cancel()


# ---- whatever happens


SCRIPT = st.lists(
    st.tuples(
        st.sampled_from(
            ["arrive", "free", "cancel", "expire", "most", "goodbye", "lose", "settle", "pause"]
        ),
        st.integers(0, 30),
    ),
    max_size=40,
)


@given(st.integers(1, 3), SCRIPT)
@settings(max_examples=100, deadline=None)
def test_whatever_happens_nobody_waits_while_there_is_room(
    connections: int, script: list[tuple[str, int]]
) -> None:
    """Never more in flight than peers and breaker allow, no place and no leave lost, order as promised."""
    trio.run(_play, connections, script, clock=MockClock())


@pytest.mark.parametrize("script", [[("arrive", 0)] * 5 + [("most", 0), ("free", 0)]])
def test_a_peer_that_takes_fewer_than_before(script: list[tuple[str, int]]) -> None:
    trio.run(_play, 1, script, clock=MockClock())


@attrs.define(eq=False)
class _Play:
    most: int
    """Connections there may be."""
    takes: int = 2
    """Requests that a peer takes at a time."""
    pool: SharedPool = attrs.field(init=False)
    every: list[Fake] = attrs.field(factory=list)
    running: list[trio.Event] = attrs.field(factory=list)
    opening: int = 0
    disturbed: bool = False
    """Something may have become of what was given in this round."""

    def __attrs_post_init__(self) -> None:
        self.pool = pool_of(may=self.may)

    def may(self, usable: int, _request: Request = EMPTY) -> bool:
        return len(self.every) + self.opening < self.most or usable == 0

    def lose(self, one: Fake) -> None:
        one.serving = False
        one.wire.changed()
        self.pool.remove(real(one))
        self.every.remove(one)
        self.pool.look()

    async def open(self) -> Fake:
        opening = self.pool.open()
        self.opening += 1
        assert self.opening == 1, "one at a time"
        try:
            await trio.lowlevel.checkpoint()
        except BaseException:
            self.opening -= 1
            self.pool.failed(None)
            raise
        self.opening -= 1
        new = fake(self.takes, settled=False)
        self.every.append(new)
        self.pool.add(real(new), opening)
        return new

    async def request(self, waiter: Waiter, scope: trio.CancelScope) -> None:
        with scope:
            if self.pool.waiting:
                self.pool.look()
            found: object = self.pool.decide(waiter.request, self.may)
            while not isinstance(found, Fake):
                if found is OPEN:
                    new = await self.open()
                    # The first one goes before anything is known.
                    peer(new).open += 1
                    new.streams += 1
                    await self.carry(new)
                    return
                taken = await self.pool.wait(waiter)
                if taken is None:
                    found = OPEN
                elif taken.serving and self.pool.takes(taken):
                    found = taken
                else:
                    assert self.disturbed, "what was given was taken by somebody else"
                    found = self.pool.decide(waiter.request, self.may)
            if waiter.turn is None:
                assert not self.pool.waiting, "somebody was first"
            found.begin()
            await self.carry(found)

    async def carry(self, one: Fake) -> None:
        over = trio.Event()
        self.running.append(over)
        try:
            await over.wait()
        finally:
            self.running.remove(over)
            one.end()

    def check(self) -> None:
        """When all tasks wait."""
        pool = self.pool
        usable = [one for one in self.every if one.serving]
        free = [one for one in usable if peer(one).room > 0]
        if pool.waiting:
            assert not free, "a place, and somebody waits"
            assert pool.opening is not None or not self.may(len(usable)), "there may be another"
            assert usable or pool.opening is not None, "nothing to wait for"
            assert all(one.watched for one in self.every)
        elif pool.opening is None:
            assert not any(one.watched for one in self.every)
        turns = [waiter.turn for waiter in pool.waiting if waiter.turn is not None]
        assert turns == sorted(turns)
        assert len(turns) == len(pool.waiting)


async def _play(connections: int, script: list[tuple[str, int]]) -> None:
    play = _Play(connections)
    arrived: list[tuple[Waiter, trio.CancelScope]] = []
    async with trio.open_nursery() as nursery:
        for what, number in [("arrive", 0)] * 4 + [("pause", 0), ("settle", 0), *script]:
            every = play.every
            if what in {"most", "goodbye", "lose"}:
                play.disturbed = True
            one = every[number % len(every)] if every else None
            if what == "arrive":
                request = request_of(control=Control())
                request.record.priority = number % 3
                arrived.append((Waiter(request), trio.CancelScope()))
                nursery.start_soon(play.request, *arrived[-1])
            elif what == "free" and play.running:
                play.running[number % len(play.running)].set()
            elif what == "cancel" and arrived:
                arrived[number % len(arrived)][1].cancel()
            elif what == "expire" and arrived:
                waiter, scope = arrived[number % len(arrived)]
                waiter.request.stream.limit(trio.current_time())
                scope.cancel()
            elif what == "most" and one is not None:
                peer(one).most = number % 4
                one.wire.changed()
            elif what == "goodbye" and one is not None:
                one.serving = False
                one.wire.changed()
            elif what == "lose" and one is not None:
                play.lose(one)
            elif what == "settle" and one is not None:
                peer(one).settled = True
                one.wire.changed()
            elif what == "pause":
                await wait_all_tasks_blocked()
                play.check()
                play.disturbed = False
        await wait_all_tasks_blocked()
        play.check()
        nursery.cancel_scope.cancel()
    assert not play.pool.waiting
