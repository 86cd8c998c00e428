"""The cut-everywhere harness: a scripted exchange, run again and again, its connections wanted by another process.

A run counts the steps of all of its tasks; a cut names one of them. After that step somebody wants the client's
connection, and the idle ones to the upstream with it: it is frozen at once where it waits, else as soon as it can be.
What is written of it becomes plain bytes, of which other drivers are made over another descriptor of the same
socket; or it is refused, and goes on where it was. Whatever the cut, both peers must see what they see without.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import attrs
import trio

from tests.migration.own_peer import OwnPeer
from tests.migration.plain import through_bytes
from tests.transport.ends import HERE, THERE, polling, trio_stream_of
from tests.transport.tls.kit import (
    NAME,
    SslPeer,
    authority,
    client_context,
    server_context,
    server_tls,
)
from xproxy.codecs.api import CodecPlugin, RestoringPlugin
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.config.schema import TimeoutsConfig
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.serial.upstream import SerialUpstream
from xproxy.connection.service import DownstreamStats, FilterChain, Service
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.standing import Moment, Standing
from xproxy.model.limits import DEFAULT_LIMITS, MIB
from xproxy.model.traits import Role, Sharing
from xproxy.stream.exchange import Releasable, Request, Response
from xproxy.testing.proxy import facts_of
from xproxy.transport.poller import Poller
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers
from xproxy.transport.tls.client import ClientTls, connect
from xproxy.transport.tls.server import accept
from xproxy.transport.tls.stream import TlsStream, resume

PATIENCE: Final = 20.0
"""Seconds after which a run has hung."""
WAYS: Final = ("move", "thaw", "both")
"""What becomes of an offer: it is taken; it is refused or withdrawn; first this and then that."""


@attrs.frozen
class Cut:
    """When a run's connections are wanted, and what becomes of that."""

    at: int
    """After so many steps of the run's tasks."""
    way: str = "move"
    times: int = 1
    """How often in a row."""
    stand: int = 0
    """Rounds of the loop in which it stands still."""


@attrs.frozen
class Seen:
    """What a run's peers saw, and what was counted. Equal whatever was cut."""

    client: bytes
    """What the client got."""
    upstream: tuple[bytes, ...]
    """What each connection to the upstream got, in the order in which they were opened."""
    requests: int
    received: int
    errors: int


class Client:
    """The client's end, for a script."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.got = bytearray()

    async def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        await self.stream.send_all(data)

    async def until(self, wanted: bytes, times: int = 1) -> None:
        """Read until ``wanted`` has come so often in all."""
        while self.got.count(wanted) < times:
            piece = await self.stream.receive_some()
            assert piece, f"the end came after {bytes(self.got[-300:])!r}"
            self.got += piece

    async def pause(self) -> None:
        """Let the others go on for some rounds."""
        for _ in range(6):
            await trio.lowlevel.checkpoint()

    async def finish(self) -> None:
        """Read to the end."""
        with contextlib.suppress(ssl.SSLZeroReturnError):  # its close_notify, behind ours
            while piece := await self.stream.receive_some():
                self.got += piece


Script: TypeAlias = Callable[[Client], Awaitable[None]]
Origin: TypeAlias = Callable[[trio.abc.Stream, bytearray], Awaitable[None]]
"""Serves a connection of the upstream's, and notes all that it gets."""


@attrs.frozen
class Scenario:
    """A scripted exchange."""

    script: Script
    origin: Origin
    plugin: CodecPlugin = HTTP1
    suite: str | None = None
    """Of TLS; None: there is none."""
    upstream_suite: str | None = None
    """Likewise, towards the upstream."""
    own_client: bool = False
    """Its client is ``OwnPeer``."""
    normal: Callable[[bytes], bytes] | None = None
    """What is compared, of the bytes that a peer got; None: they themselves. For what depends on how bytes came."""
    upstreams_only: bool = False
    """The client's connection has many streams at a time, and stays."""
    timeouts: TimeoutsConfig = attrs.field(factory=TimeoutsConfig)


class _Steps(trio.abc.Instrument):
    """Counts steps, and calls ``then`` after one of them."""

    def __init__(self, at: int, then: Callable[[], None]) -> None:
        self.count = 0
        self.failure: BaseException | None = None
        self._at = at
        self._then = then

    def after_task_step(self, _task: trio.lowlevel.Task) -> None:
        """See Instrument, which would only log what is raised here."""
        self.count += 1
        if self.count == self._at:
            try:
                self._then()
            except BaseException as exc:
                self.failure = exc


@attrs.define(eq=False)
class _Lease(Releasable):
    run: Run
    connection: SerialUpstream

    async def aclose(self) -> None:
        self.run.settle(self.connection)


@attrs.define(eq=False)
class Run:
    """One run of a scenario."""

    scenario: Scenario
    cut: Cut
    poller: Poller
    nursery: trio.Nursery
    timers: Timers = attrs.field(factory=Timers)
    stats: DownstreamStats = attrs.field(factory=DownstreamStats)
    chain: FilterChain = attrs.field(init=False)
    driver: SerialDownstream | Multiplexed = attrs.field(init=False)
    ended: trio.Event = attrs.field(init=False)
    idle: list[SerialUpstream] = attrs.field(factory=list)
    upstream: list[bytearray] = attrs.field(factory=list)
    origins: list[trio.Event] = attrs.field(factory=list)
    moves: int = 0
    thaws: int = 0
    upstream_moves: int = 0
    busy: int = 0
    """Times that it could not be frozen at once."""
    over: bool = False
    seeking: bool = False
    """An upstream's connection is wanted as soon as nobody uses it."""
    _left: int = 0
    _frozen: Moment | None = None
    _wanted: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        service = Service(self.handle, self.scenario.timeouts, MIB, 100, MIB)
        self.chain = FilterChain("test", service, self.stats)
        self._left = self.cut.times

    # ---- the client's connection

    def serve(self, stream: ByteStream, moment: Moment | None = None) -> None:
        """Let a driver serve it: a new one, or one that goes on."""
        plugin = self.scenario.plugin
        if moment is None:
            codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        else:
            assert isinstance(plugin, RestoringPlugin)
            codec = plugin.restore(moment.parts.codec, Role.SERVER, DEFAULT_LIMITS)
        facts = facts_of(plugin.name, plugin.traits)
        driver: SerialDownstream | Multiplexed
        if plugin.traits.sharing is Sharing.SERIAL:
            driver = SerialDownstream(stream, codec, facts, self.chain, self.timers, moment=moment)
        else:
            driver = Multiplexed(
                stream, codec, Role.SERVER, facts, self.chain, self.timers, moment=moment
            )
        ended = trio.Event()

        async def drive() -> None:
            await driver.run(b"")
            ended.set()

        self.driver, self.ended = driver, ended
        self.nursery.start_soon(drive)

    # ---- being wanted

    def want(self) -> None:
        """Freeze what can be frozen, now or later. Never blocks."""
        if self.over:
            return
        driver = self.driver
        if self.scenario.upstreams_only:
            while self._left and self.idle:
                self._left -= 1
                self.move_upstreams()
            self.seeking = self._left > 0
            return
        self.move_upstreams()
        assert isinstance(driver, SerialDownstream)
        standing = driver.standing
        if standing is Standing.IDLE:
            self.freeze()
        elif standing is not Standing.NEVER:
            self.busy += 1
            driver.seek(self.freeze)

    def freeze(self) -> bool:
        """See ``SerialDownstream.seek``."""
        if self.over:
            return False
        driver = self.driver
        assert isinstance(driver, SerialDownstream)
        standing = [driver.standing]
        if standing != [Standing.IDLE]:
            return False  # it may be amid its stream; that it moves with that is tried elsewhere
        self.move_upstreams()
        self._frozen = driver.freeze()
        assert [*standing, driver.standing] == [Standing.IDLE, Standing.NOT_NOW]
        self._wanted.set()
        return True

    async def take(self) -> None:
        """Let what was frozen go on, there or here, as often as the cut says."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            for _ in range(self.cut.stand):
                await trio.lowlevel.checkpoint()
            moment, self._frozen = self._frozen, None
            assert moment is not None
            way = self.cut.way
            old = self.driver
            assert isinstance(old, SerialDownstream)
            if way == "thaw" or (way == "both" and not self.thaws):
                self.thaws += 1
                if way == "thaw":
                    self._left -= 1
                old.seek(None)
                old.thaw()
            else:
                await self.move(moment)
                self._left -= 1
            if self._left:
                self.want()

    async def move(self, moment: Moment) -> None:
        """Let another driver go on with the client's connection."""
        assert moment.sock is not None
        got = through_bytes(moment)
        sock = moment.sock.dup()
        ended = self.ended
        self.driver.leave()
        await ended.wait()
        self.moves += 1
        stream: ByteStream = self.poller.add(sock, HERE, THERE)
        if got.parts.stream:
            stream = resume(stream, got.parts.stream)
        self.serve(stream, got)

    # ---- the upstream's

    async def handle(self, request: Request) -> Response:
        """Ask the upstream, on a connection of the pool if there is one."""
        while self.idle:
            connection = self.idle.pop()
            if connection.reusable:
                break
            connection.close()
        else:
            plugin = self.scenario.plugin
            codec = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
            connection = SerialUpstream(await self._open(), codec, plugin.traits, THERE)
        try:
            response = await connection.exchange(request)
        except BaseException:
            connection.close()
            raise
        if response.lease is None:
            self.settle(connection)
        else:
            response.lease = _Lease(self, connection)
        return response

    async def _open(self) -> ByteStream:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        got = bytearray()
        self.upstream.append(got)
        done = trio.Event()
        self.origins.append(done)
        suite = self.scenario.upstream_suite

        async def serve() -> None:
            async with trio_stream_of(theirs) as raw:
                stream: trio.abc.Stream = raw
                if suite is not None:
                    stream = peer = SslPeer(raw, server_context(suite))
                    await peer.handshake()
                await self.scenario.origin(stream, got)
            done.set()

        self.nursery.start_soon(serve)
        under = self.poller.add(ours, THERE, HERE)
        if suite is None:
            return under
        return await connect(under, ClientTls(ca=str(authority().ca)), NAME)

    def settle(self, connection: SerialUpstream) -> None:
        """An exchange is over."""
        connection.release()
        if connection.reusable and connection.finished:
            self.idle.append(connection)
            if self.seeking:
                self.want()
        else:
            connection.close()

    def move_upstreams(self) -> None:
        """Let the idle ones go on elsewhere, or where they were."""
        for connection in [one for one in self.idle if one.reusable]:
            moment = connection.freeze()
            if self.cut.way == "thaw":
                connection.thaw()
                continue
            assert moment.sock is not None
            got = through_bytes(moment)
            sock = moment.sock.dup()
            connection.leave()
            self.idle.remove(connection)
            self.upstream_moves += 1
            self.adopt(sock, got, connection.requests)

    def adopt(self, sock: socket.socket, moment: Moment, requests: int) -> None:
        """Go on with a connection to the upstream."""
        plugin = self.scenario.plugin
        assert isinstance(plugin, RestoringPlugin)
        codec = plugin.restore(moment.parts.codec, Role.CLIENT, DEFAULT_LIMITS)
        assert not moment.parts.unsent
        stream: ByteStream = self.poller.add(sock, THERE, HERE)
        if moment.parts.stream:
            stream = resume(stream, moment.parts.stream)
        self.idle.append(SerialUpstream(stream, codec, plugin.traits, THERE, requests=requests))


@asynccontextmanager
async def _connected(
    scenario: Scenario, poller: Poller
) -> AsyncIterator[tuple[ByteStream, Client]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream: ByteStream = poller.add(ours, HERE, THERE)
    raw = trio_stream_of(theirs)
    try:
        if scenario.suite is None:
            yield stream, Client(raw)
        else:
            peer = SslPeer(raw, client_context(scenario.suite), server_name=NAME)
            made: list[ByteStream] = []

            async def shake() -> None:
                made.append(await accept(stream, b"", server_tls()))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(shake)
                nursery.start_soon(peer.handshake)
            [served] = made
            if scenario.own_client:
                assert isinstance(served, TlsStream)
                yield served, Client(OwnPeer(raw, served))
            else:
                yield served, Client(peer)
    finally:
        stream.close()
        raw.socket.close()


async def run(scenario: Scenario, cut: Cut) -> tuple[Seen, Run, int]:
    """Run the scenario with one cut. Returns what was seen, the run itself, and how many steps it took."""
    with trio.fail_after(PATIENCE):
        async with (
            polling() as poller,
            trio.open_nursery() as nursery,
            _connected(scenario, poller) as (stream, client),
        ):
            made = Run(scenario, cut, poller, nursery)
            nursery.start_soon(made.timers.run)
            nursery.start_soon(made.take)
            steps = _Steps(cut.at, made.want)
            trio.lowlevel.add_instrument(steps)
            try:
                made.serve(stream)
                await scenario.script(client)
                made.over = True
                await client.stream.send_eof()
                await client.finish()
                await made.ended.wait()
            finally:
                trio.lowlevel.remove_instrument(steps)
                for connection in made.idle:
                    connection.close()
            if steps.failure is not None:
                raise steps.failure
            for origin in made.origins:
                await origin.wait()
            nursery.cancel_scope.cancel()
    stats = made.stats
    assert stats.downstream_rq_active == 0
    assert made.chain.service.streams == 0
    normal = scenario.normal or bytes
    # Framing that depends on how bytes came is counted as well.
    assert stats.downstream_tx_bytes_total == len(client.got)
    seen = Seen(
        normal(bytes(client.got)),
        tuple(normal(bytes(got)) for got in made.upstream),
        stats.downstream_rq_total,
        stats.downstream_rx_bytes_total,
        stats.downstream_cx_protocol_error + stats.downstream_rq_reset,
    )
    return seen, made, steps.count


NEVER: Final = Cut(at=0)


def cuts(steps: int, way: str, times: int, every: int = 1) -> Iterator[Cut]:
    """Give cuts at each ``every``-th step, standing still for no, few or many rounds in turn."""
    for number, at in enumerate(range(1, steps + 1, every)):
        yield Cut(at, way, times, stand=(0, 3, 12)[number % 3])


async def check(
    scenario: Scenario, *, way: str, times: int = 1, every: int = 1
) -> tuple[int, int, int]:
    """Run without a cut, then with one at each ``every``-th step; all must see the same.

    Returns how many moves, thaws and moves of upstream connections that were.
    """
    expected, _, steps = await run(scenario, NEVER)
    assert expected.errors == 0
    assert expected.requests
    moves = thaws = upstream_moves = 0
    for cut in cuts(steps, way, times, every):
        seen, made, _ = await run(scenario, cut)
        assert seen == expected, f"{cut}: {made.moves} moves, {made.thaws} thaws"
        moves += made.moves
        thaws += made.thaws
        upstream_moves += made.upstream_moves
    return moves, thaws, upstream_moves
