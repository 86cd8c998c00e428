"""The counters of all processes together are what happened, however they tell each other."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.live import GET, Live, eventually, hang_up, http_response, running, upstream, web
from tests.proxy.test_serve_connection import HEAD
from xproxy.admin.pages import clusters, stats
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.standing import Standing
from xproxy.migration.counts import Counts, teller
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.observe.histogram import Histogram
from xproxy.observe.metrics import StatsRegistry, counter, counters, gauge, histogram
from xproxy.proxy.connection import Connection
from xproxy.proxy.snapshot import Snapshot
from xproxy.testing import Party, play
from xproxy.testing.proxy import facts_of


@attrs.define(eq=False)
class Stats:
    total: int = counter("How many.")
    active: int = gauge("Now.")
    seconds: Histogram = histogram("How long.", (1.0, 2.0))  # noqa: RUF009 - a field
    statuses: dict[Status, int] = counters("status", "Which.")  # noqa: RUF009 - a field


class Process:
    """What counts in one process."""

    def __init__(self) -> None:
        self.metrics = StatsRegistry()
        self.snapshot: Snapshot | None = None
        self.stats = Stats()
        self.metrics.add("cluster", "web", self.stats)

    def count(self, what: int) -> None:
        self.stats.total += 1
        self.stats.seconds.observe(what)
        status = Status(what)
        self.stats.statuses[status] = self.stats.statuses.get(status, 0) + 1

    def shown(self) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in self.metrics.render_text().splitlines())


def of(happened: Stats) -> dict[str, str]:
    process = Process()
    process.metrics.add("cluster", "web", happened)
    return process.shown()


class Generations:
    """Processes that take over one from the other; each has a way to one that is newer, on which messages wait."""

    def __init__(self) -> None:
        self.processes = [Process()]
        self.happened = Process()
        self.counts: dict[tuple[int, int], Counts] = {}
        self.told_by: dict[int, Counts] = {}
        self.newer: dict[int, int] = {}
        self.waiting: dict[tuple[int, int], list[bytes]] = {}

    @property
    def newest(self) -> int:
        return len(self.processes) - 1

    def _of(self, sender: int, receiver: int) -> Counts:
        # What the receiver of ``sender``'s numbers has heard of it.
        return self.counts.setdefault((receiver, sender), Counts(self.processes[receiver]))

    def take_over(self) -> None:
        old = self.newest
        self.processes.append(Process())
        self.newer[old] = self.newest
        # At this moment, as the old one stops accepting.
        self.told_by[old] = self._of(old + 1, old)
        self._send(old, self.told_by[old].absolute())

    def follow(self, old: int) -> None:
        """An older one gets a way to the newest, and tells it what it has not told."""
        if old in self.newer:
            self.newer[old] = self.newest

    def tell(self, old: int) -> None:
        if old in self.newer:
            self._send(old, self.told_by[old].delta())

    def fail(self, old: int) -> None:
        """Something cannot be sent."""
        if old in self.newer:
            counts = self.told_by[old]
            counts.untold(counts.delta())

    def _send(self, old: int, data: bytes) -> None:
        self.waiting.setdefault((old, self.newer[old]), []).append(data)

    def deliver(self, way: tuple[int, int]) -> None:
        waiting = self.waiting.get(way)
        if waiting:
            self._of(*way).add(waiting.pop(0))

    def count(self, process: int, what: int) -> None:
        self.processes[process].count(what)
        self.happened.count(what)

    def end(self) -> None:
        for old in range(self.newest):
            self.processes[old].stats.active = 0
            self.tell(old)
            for way in sorted(self.waiting):
                while self.waiting[way] and way[0] <= old:
                    self.deliver(way)
        for counts in self.counts.values():
            counts.ended()


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.sampled_from(["tell", "follow", "fail"]), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("deliver"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("take_over"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(_STEPS)
@settings(max_examples=400)
def test_counters_are_what_happened(steps: list[tuple[str, int, int]]) -> None:
    world = Generations()
    for step, one, other in steps:
        process = one % len(world.processes)
        match step:
            case "count":
                world.count(process, other)
            case "tell":
                world.tell(process)
            case "follow":
                world.follow(process)
            case "fail":
                world.fail(process)
            case "deliver":
                world.deliver((process, other % len(world.processes)))
            case _ if len(world.processes) < 4:
                world.take_over()
    world.end()
    assert world.processes[-1].shown() == of(world.happened.stats)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_what_is_given_back_is_not_told_what_it_told(steps: list[tuple[bool, bool]]) -> None:
    old, new, happened = Process(), Process(), Process()
    ours, theirs = Counts(old), Counts(new)
    old.count(0)
    happened.count(0)
    theirs.add(ours.absolute())
    for by_new, tells in steps:
        (new if by_new else old).count(1)
        happened.count(1)
        if tells:
            theirs.add(ours.delta())
    # Roles change: the new one gives all back over the same pair.
    theirs.add(ours.delta())
    ours.add(theirs.delta())
    ours.add(theirs.delta())
    ours.ended()
    assert old.shown() == of(happened.stats)


def test_a_process_after_the_next_is_told_the_difference() -> None:
    first, second, third, happened = Process(), Process(), Process(), Process()

    def count() -> None:
        first.count(1)
        happened.count(1)

    count()
    Counts(second).add(teller(first).tell())
    count()
    Counts(third).add(teller(second).tell())
    Counts(third).add(teller(first).tell())
    count()
    Counts(third).add(teller(first).tell())
    assert third.shown() == of(happened.stats)


def test_after_one_that_was_lost_the_next_is_told_everything() -> None:
    old, lost, new, happened = Process(), Process(), Process(), Process()
    for counted in (old, happened):
        counted.count(1)
        counted.count(2)
    Counts(lost).add(teller(old).tell())
    first = teller(old)
    first.lost()
    first.lost()
    assert teller(old) is not first
    Counts(new).add(teller(old).tell())
    assert new.shown() == of(happened.stats)


def test_whoever_is_gone_hears_nothing() -> None:
    process, other = Process(), Process()
    other.count(1)
    gone = weakref.ref(Counts(process))
    assert gone() is None
    Counts(process).add(Counts(other).tell())
    assert process.shown() == other.shown()


def test_gauges_of_an_older_process_are_shown_until_it_has_ended() -> None:
    old, new = Process(), Process()
    ours, theirs = Counts(old), Counts(new)
    old.stats.active, new.stats.active = 5, 2
    theirs.add(ours.absolute())
    assert new.shown()["cluster.web.active"] == "7"
    old.stats.active = 1
    theirs.add(ours.delta())
    theirs.add(ours.delta())
    assert new.shown()["cluster.web.active"] == "3"
    newest = Process()
    last = Counts(newest)
    last.add(Counts(new).absolute())
    assert newest.shown()["cluster.web.active"] == "3"
    theirs.ended()
    theirs.ended()
    assert new.shown()["cluster.web.active"] == "2"
    assert new.stats.active == 2, "nobody writes into what the hot path counts with"


def test_what_a_process_in_between_does_not_have_goes_through_it() -> None:
    first, second, third = Process(), Process(), Process()
    first.count(0)
    second.metrics.remove("cluster", "web")
    _tell(first, second)
    assert second.shown() == {}
    _tell(second, third)
    assert third.shown()["cluster.web.total"] == "1"


def test_other_fields_and_bounds_are_passed_over() -> None:
    @attrs.define(eq=False)
    class Newer:
        total: dict[str, int] = counters("label", "Apart now.")  # noqa: RUF009 - a field
        seconds: Histogram = histogram("How long.", (1.0, 3.0))  # noqa: RUF009 - a field
        fresh: int = 0

    old, new = Process(), Process()
    old.count(1)
    new.metrics.add("cluster", "web", Newer(fresh=3))
    _tell(old, new)
    assert new.shown()["cluster.web.fresh"] == "3"
    assert new.shown()["cluster.web.seconds"].startswith("count=0 ")
    assert "cluster.web.total" not in new.shown()


def _tell(old: Process, new: Process) -> None:
    Counts(new).add(Counts(old).absolute())


def _valid() -> bytes:
    process = Process()
    process.count(0)
    process.stats.active = 1
    return Counts(process).absolute()


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_and_add_nothing(data: bytes) -> None:
    process = Process()
    before = process.shown()
    with pytest.raises(ValueError, match="counts"):
        Counts(process).add(data)
    assert process.shown() == before


@given(st.integers(0, len(_valid()) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_counts_something_else(place: int, byte: int) -> None:
    data = bytearray(_valid())
    data[place] = byte
    process = Process()
    try:
        Counts(process).add(bytes(data))
    except ValueError:
        assert process.shown() == Process().shown()
    process.metrics.render_prometheus()


def test_what_is_counted_between_two_steps_is_told_once() -> None:
    old, new, happened = Process(), Process(), Process()
    others = [Stats() for _ in range(3)]
    for number, stats_ in enumerate(others):
        old.metrics.add("cluster", str(number), stats_)
    ours, theirs = Counts(old), Counts(new)
    for whole in (True, False, False):
        telling = ours.telling(whole=whole)
        while True:
            old.count(1)
            happened.count(1)
            for stats_ in others:
                stats_.total += 1
            old.metrics.remove("cluster", "0")  # a reload
            try:
                next(telling)
            except StopIteration as done:
                theirs.add(done.value)
                break
    theirs.add(ours.delta())
    assert new.shown() == of(happened.stats)
    assert new.metrics.earlier.of(("cluster", "2"))["total"] == others[2].total


async def test_endpoints_go_on_counting() -> None:
    async with upstream() as up, running(web(up.port)) as old, running(web(up.port)) as new:
        ours, theirs = Counts(old.runtime), Counts(new.runtime)
        client = await old.client()
        await client.send(GET)
        endpoint = Party("endpoint", await up.accept())
        theirs.add(ours.absolute())
        line = clusters(new.runtime).body.decode()
        assert "rq_active=1 rq_total=1 rq_error=0 cx_active=1" in line
        await hang_up(endpoint)
        await eventually(lambda: old.cluster().stats.upstream_rq_active == 0, "the end")
        theirs.add(ours.delta())
        theirs.ended()
        line = clusters(new.runtime).body.decode()
        assert "rq_active=0 rq_total=1 rq_error=1 cx_active=0" in line
        assert new.cluster().endpoints[0].total == 0


async def _move(old: Live, new: Live) -> None:
    """Let ``new`` go on with the one connection of ``old`` that is idle."""
    await eventually(lambda: bool(_idle(old)), "one is idle")
    [connection] = _idle(old)
    driver = connection.driver
    assert driver is not None
    moment = driver.freeze()
    assert moment.sock is not None

    async def drive(adopted: Connection) -> Awaitable[None]:
        codec = HTTP1.restore(moment.parts.codec, Role.SERVER, DEFAULT_LIMITS)
        facts = facts_of(HTTP1.name, HTTP1.traits)
        adopted.driver = SerialDownstream(
            adopted.stream, codec, facts, active.chains.main, new.runtime.timers, moment=moment
        )
        return adopted.driver.run(b"")

    active = new.runtime.listeners["edge"]
    assert active.adopt(moment.sock.dup(), connection.id, drive)
    driver.leave()
    await eventually(lambda: connection.id not in _connections(old), "it has left")


def _connections(live: Live) -> dict[int, Connection]:
    return live.runtime.listeners["edge"].connections


def _idle(live: Live) -> list[Connection]:
    return [
        connection
        for connection in _connections(live).values()
        if connection.driver is not None and connection.driver.standing is Standing.IDLE
    ]


def _shown(live: Live, *names: str) -> list[int]:
    lines = dict(line.split(": ") for line in stats(live.runtime).body.decode().splitlines())
    return [int(lines[f"listener.edge.downstream_{name}"]) for name in names]


async def test_what_moves_is_counted_once_and_active_where_it_is() -> None:
    names = "cx_total", "cx_active", "rq_total", "rq_active"
    answer = http_response(b"ok")
    async with (
        upstream() as up,
        running(web(up.port)) as old,
        running(web(up.port)) as new,
        running(web(up.port)) as newest,
    ):
        moving, staying = await old.client(), await old.client()
        await moving.send(GET)
        first = Party("first", await up.accept())
        await play(first << HEAD, first >> answer, moving << answer)
        await staying.send(GET)
        await first.expect(HEAD)  # it is pooled; the answer is long in coming
        ours, theirs = Counts(old.runtime), Counts(new.runtime)
        theirs.add(ours.absolute())
        assert _shown(new, *names) == [2, 2, 2, 1]
        await _move(old, new)
        theirs.add(ours.delta())
        assert _shown(new, *names) == [2, 2, 2, 1]
        assert (old.stats().downstream_cx_active, new.stats().downstream_cx_active) == (1, 1)
        assert (old.stats().downstream_rq_active, new.stats().downstream_rq_active) == (1, 0)
        await moving.send(GET)
        second = Party("second", await up.accept())
        await play(second << HEAD, second >> answer, moving << answer)
        assert _shown(new, *names) == [2, 2, 3, 1]

        # Another generation; the oldest one's way leads to it from now on.
        newer, newest_counts = Counts(new.runtime), Counts(newest.runtime)
        newest_counts.add(newer.absolute())
        theirs.ended()
        of_oldest = Counts(newest.runtime)
        of_oldest.add(ours.delta())
        await _move(new, newest)
        newest_counts.add(newer.delta())
        assert _shown(newest, *names) == [2, 2, 3, 1]
        await play(first >> answer, staying << answer)
        await _move(old, newest)
        for party in (moving, staying):
            await hang_up(party)
        await newest.settled()
        of_oldest.add(ours.delta())
        newest_counts.add(newer.delta())
        of_oldest.ended()
        newest_counts.ended()
        assert _shown(newest, *names) == [2, 0, 3, 0]
        assert _shown(newest, "rx_bytes_total") == [3 * len(GET)]
        assert "listener.edge.statuses.ok: 3" in stats(newest.runtime).body.decode().splitlines()
        assert "cluster.web.upstream_rq_total: 3" in stats(newest.runtime).body.decode()
