"""The new process in a takeover: it takes connections over a channel, and serves them from then on.

What happens when is ``taking.py``'s to say; here it is done.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Protocol

import attrs
import trio

from xproxy.migration import counts as counting
from xproxy.migration import taking
from xproxy.migration.carry import Carried, reason, resume
from xproxy.migration.faults import fault
from xproxy.migration.giving import STALL
from xproxy.migration.greeting import greet
from xproxy.migration.messages import (
    Hello,
    Message,
    Offer,
    Ready,
    Refused,
    Taken,
    pack,
    unpack,
)
from xproxy.migration.packing import Downstream, Undetected, Upstream
from xproxy.migration.packing import unpack as unpack_state
from xproxy.migration.rehearsing import rehearse, rehearse_upstream
from xproxy.migration.taking import Taking
from xproxy.migration.tally import MOST_REASONS, Tally
from xproxy.migration.undumpable import undumpable
from xproxy.model.errors import PluginError
from xproxy.observe.takeover import MAX_REASON, Stage
from xproxy.proxy.active_listener import ActiveListener
from xproxy.proxy.adopting import (
    Accepted,
    Adoption,
    Codecs,
    Full,
    adopt,
    adopt_opening,
    aged,
    aged_opening,
)
from xproxy.proxy.flowing import adopt_exchange, rehearse_exchange
from xproxy.proxy.handover import Report
from xproxy.proxy.runtime import Runtime
from xproxy.proxy.snapshot import Snapshot
from xproxy.stream.exchange import Downstream as DownstreamConnection
from xproxy.transport.channel import Channel, NotSent, Received, Unheard
from xproxy.transport.listener import address_of
from xproxy.transport.stream import ByteStream
from xproxy.transport.tls.stream import resume as resume_tls
from xproxy.upstream.cluster import Cluster
from xproxy.upstream.moving import settings_of

_logger = logging.getLogger(__name__)


class Pending(Protocol):
    """A connection that was made of an offer. Exactly one of its methods is to be called."""

    def begin(self) -> None:
        """It is ours."""
        ...

    def drop(self) -> None:
        """It is not: close our copy, and touch it in no other way."""
        ...


@attrs.frozen(kw_only=True)
class Outcome:
    """How a takeover ended, for the new process."""

    serve: bool
    """It goes on serving, alone."""
    why: str
    """Where it did not go as it should."""
    tally: Tally


async def take(
    runtime: Runtime, sock: socket.socket, report: Report, *, gives_back: bool = False
) -> Outcome:
    """Take over from the process at the other end of ``sock``, a SEQPACKET socket, which is closed at the end.

    ``runtime`` runs already, but accepts nobody: it was told to ``hold`` before it ran. It accepts when the old one
    has stopped. Returns when the old one has nothing left, or has died: then the runtime serves alone; or when
    the takeover was withdrawn, or only rehearsed: then the runtime ends what it has taken by the goodbye of each
    protocol, and itself.

    Called for a ``runtime`` that accepts, it takes what an older process yet has left; then the runtime goes on,
    whatever becomes of that.

    ``gives_back``: where a takeover was withdrawn, the runtime goes on with what it has taken, and accepts nobody:
    the caller lets it ``give`` that back, or stops it.
    """
    taker = _Taker(runtime, Channel(sock), report, gives_back=gives_back)
    with undumpable():
        return await taker.run()


class _Taker:
    def __init__(
        self, runtime: Runtime, channel: Channel, report: Report, *, gives_back: bool
    ) -> None:
        self._runtime = runtime
        self._gives_back = gives_back
        self._channel = channel
        self._report = report
        self._counts = counting.Counts(runtime)
        self._codecs = Codecs(runtime.registry)
        self._machine = Taking(greet(runtime), listeners=tuple(runtime.listeners))
        self._pending: dict[int, Pending] = {}
        self._names: dict[int, str] = {}
        # Of the connections that are pending.
        self._carried: list[Carried] = []
        self._tally = Tally(runtime.takeover)
        self._over: taking.Over | None = None
        held = runtime.step_aside is not None or runtime.tails_since is not None
        self._more = held or runtime.accepting.is_set()
        # It serves already, or has served, and only gets what an older process yet has left.

    async def run(self) -> Outcome:
        fault("take.begin")
        status = self._runtime.takeover
        if not self._more:
            status.begin(gives=False)
        status.older(1)
        try:
            await self._do(self._machine.begin(), None)
            while not self._machine.over:
                await self._hear()
        finally:
            await self._settle()
            for pending in self._pending.values():
                pending.drop()
            self._counts.ended()
            status.older(-1)
            self._channel.close()
        return self._concluded()

    async def _settle(self) -> None:
        # This process ends, and is followed by a newer one: an end without a word is that of one that has died.
        with trio.CancelScope(shield=True), trio.move_on_after(STALL):
            if not self._machine.over:
                await self._do(self._machine.withdraw("it ends"), None)

    def _concluded(self) -> Outcome:
        over = self._over
        assert over is not None  # the machine has ended
        # Whoever gives to a process that is newer yet is not ended by what becomes of an older one.
        more = self._more or self._runtime.step_aside is not None
        if not more and not self._runtime.takeover.gives:
            self._runtime.takeover.end(over.why)
        state = "alone" if over.serve else "rehearsed" if self._machine.rehearsal else "withdrawn"
        if more:
            state = "taken"
        self._report({"step": state, "why": over.why, **self._tally.plain()})
        why = f": {over.why}" if over.why else ""
        _logger.info("takeover: %s%s; %s", state, why, self._tally)
        if not over.serve and not more:
            self._runtime.hold()
            if self._gives_back and self._tally.moved:
                self._counts.give_back()
            else:
                self._runtime.stop()  # whoever has the sockets serves what waits in their queues
        return Outcome(serve=over.serve, why=over.why, tally=self._tally)

    async def _hear(self) -> None:
        try:
            received = await self._channel.receive()
        except ValueError as exc:
            await self._do(self._machine.broken(str(exc)), None)
            return
        if received is None:
            await self._do(self._machine.end(), None)
            return
        with received:
            try:
                message = unpack(received.message)
            except ValueError as exc:
                await self._do(self._machine.broken(str(exc)), None)
                return
            if isinstance(message, Hello) and not self._more:
                self._runtime.takeover.meet(message.software)
            if message is not None:
                await self._do(self._machine.hear(message), received)

    # ---- what the machine wants

    async def _do(self, actions: list[taking.Action], received: Received | None) -> None:
        for action in actions:
            match action:
                case taking.Send(message=message):
                    await self._say(message)
                case taking.Resume(carry=carry):
                    state = received.state if received is not None else None
                    self._carried.append(
                        Carried(
                            kind=carry.kind,
                            name=carry.name,
                            version=carry.version,
                            data=state or b"",
                        )
                    )
                case taking.Number(last_id=last):
                    self._runtime.ids.after(last)
                case taking.Accept():
                    if self._more:
                        continue
                    self._runtime.accept()
                    self._runtime.takeover.enter(Stage.TAKING)
                    fault("take.accepting")
                    self._report({"step": "accepting"})
                case taking.Restore(offer=offer) | taking.Try(offer=offer):
                    assert received is not None  # the offer came with it
                    await self._do(self._restore(offer, received), None)
                case taking.Begin(number=number):
                    self._begin(number)
                case taking.Drop(number=number):
                    self._drop(number)
                case taking.Count():
                    self._count(received)
                case taking.Over():
                    self._over = action

    async def _say(self, message: Message) -> None:
        if isinstance(message, Ready):
            self._resume()
        try:
            if isinstance(message, Taken) and fault("take.restored"):
                raise Unheard("on purpose")
            await self._channel.send(pack(message), within=STALL)
        except (Unheard, NotSent, trio.TooSlowError):
            if isinstance(message, Taken):
                for number in message.numbers:
                    await self._do(self._machine.unheard(number), None)
            return
        if isinstance(message, Taken):
            fault("take.taken")
            for number in message.numbers:
                await self._do(self._machine.sent(number), None)
        elif isinstance(message, Refused):
            self._tally.turn_down(message.why)

    def _resume(self) -> None:
        carried, self._carried = self._carried, []
        if self._more:
            return  # what is known here is newer
        left = resume(self._runtime, carried)
        self._runtime.takeover.left_behind(left)
        # All of them are in the log.
        named = [str(one)[:MAX_REASON] for one in left[:MOST_REASONS]]
        self._report({"step": "ready", "not_carried": named})
        fault("take.ready")

    def _count(self, received: Received | None) -> None:
        state = received.state if received is not None else None
        try:
            self._counts.add(state or b"")
        except ValueError as exc:
            _logger.warning("takeover: what the old process counted is not added: %s", exc)

    def _begin(self, number: int) -> None:
        pending = self._pending.pop(number, None)
        name = self._names.pop(number, "")
        self._tally.took(name)
        if pending is not None:
            pending.begin()
        fault("take.begun")

    def _drop(self, number: int) -> None:
        pending = self._pending.pop(number, None)
        self._names.pop(number, None)
        if pending is not None:
            pending.drop()

    # ---- connections

    def _restore(self, offer: Offer, received: Received) -> list[taking.Action]:
        machine = self._machine
        if fault("take.received"):
            received.close()
            received.torn = "on purpose"
        if received.torn:
            return machine.refuse(offer.number, received.torn, for_ever=False)
        sockets: list[socket.socket] = []
        try:
            while received.descriptors:
                sockets.append(_socket(received.descriptors[0]))
                del received.descriptors[0]
            found = unpack_state(received.state or b"", sockets, missing=machine.rehearsal)
            passed = max(time.monotonic() - offer.cut, 0.0)
            if isinstance(found, Downstream):
                name = found.described.codec
                pending = self._downstream(found, passed)
            elif isinstance(found, Undetected):
                name = "opening"
                pending = self._undetected(found, passed)
            else:
                name = f"upstream {found.handed.protocol}"
                pending = self._upstream(found, passed)
        except Exception as exc:  # a plugin's codec, too: see ``reason``
            for sock in sockets:
                sock.close()
            return machine.refuse(offer.number, reason(exc), for_ever=not isinstance(exc, Full))
        if pending is not None:
            self._pending[offer.number] = pending
        self._names[offer.number] = name
        return machine.restored(offer.number)

    def _downstream(self, found: Downstream, passed: float) -> Pending | None:
        active = self._listener(found.described)
        moment = aged(found.moment, passed)
        if self._machine.rehearsal:
            rehearse(active, found.described, moment, self._codecs)
            for bound in found.bound:
                self._upstream(bound, passed)
            if moment.exchange is not None:
                registry = self._runtime.registry
                rehearse_exchange(
                    active, found.described, moment.exchange, self._snapshot, registry
                )
            return None
        sock = moment.sock
        if sock is None:
            raise ValueError("it came without its socket")
        adoption = adopt(active, found.described, moment, sock, self._codecs, self._runtime.timers)
        if found.bound:
            return self._group(adoption, found.bound, passed)
        if moment.exchange is None:
            return adoption
        try:
            return adopt_exchange(adoption, moment.exchange, self._snapshot, self._runtime.poller)
        except BaseException:
            adoption.drop()
            raise

    @property
    def _snapshot(self) -> Snapshot:
        snapshot = self._runtime.snapshot
        assert snapshot is not None  # it runs
        return snapshot

    def _undetected(self, found: Undetected, passed: float) -> Pending | None:
        active = self._listener(found.accepted)
        moment = aged_opening(found.opening, passed)
        if self._machine.rehearsal:
            moment.check()
            return None
        if moment.sock is None:
            raise ValueError("it came without its socket")
        return adopt_opening(active, found.accepted, moment, moment.sock)

    def _listener(self, described: Accepted) -> ActiveListener:
        listeners = self._runtime.listeners
        active = listeners.get(described.listener)
        if active is None:
            same = (one for one in listeners.values() if one.address == described.address)
            active = next(same, None)
        if active is None:
            raise ValueError(f"there is no listener {described.listener}")
        return active

    def _group(self, adoption: Adoption, bound: tuple[Upstream, ...], passed: float) -> Pending:
        # A client's connection, and those to endpoints that are its own.
        terms = adoption.connection.terms
        downstream = terms.facts.downstream if terms is not None else None
        ends: list[_PendingUpstream] = []
        try:
            for found in bound:
                end = self._upstream(found, passed)
                assert end is not None  # this is no rehearsal
                end.downstream = downstream
                ends.append(end)
        except BaseException:
            for end in ends:
                end.drop()
            adoption.drop()
            raise
        return _PendingGroup(adoption, ends)

    def _upstream(self, found: Upstream, passed: float) -> _PendingUpstream | None:
        snapshot = self._runtime.snapshot
        cluster = snapshot.clusters.get(found.cluster) if snapshot is not None else None
        if cluster is None:
            raise ValueError(f"there is no cluster {found.cluster}")
        if settings_of(cluster.config) != found.settings:
            raise ValueError(f"cluster {found.cluster} has other settings")
        if not any(endpoint.address == found.address for endpoint in cluster.endpoints):
            raise ValueError(f"cluster {found.cluster} has no endpoint {found.address}")
        if self._machine.rehearsal:
            client = self._runtime.registry.codec(found.handed.client or found.handed.protocol)
            rehearse_upstream(cluster, found, client.traits)
            return None
        sock = found.handed.moment.sock
        if sock is None:
            raise ValueError("it came without its socket")
        sock.setblocking(False)
        under = self._runtime.poller.add(sock, address_of(sock, peer=True), address_of(sock))
        stream: ByteStream = under
        if found.handed.moment.parts.stream:
            try:
                stream = resume_tls(under, found.handed.moment.parts.stream)
            except ValueError:
                under.close()
                raise
        handed = attrs.evolve(found.handed, moment=aged(found.handed.moment, passed))
        return _PendingUpstream(
            self._runtime, cluster, attrs.evolve(found, handed=handed), under, stream
        )


def _socket(number: int) -> socket.socket:
    try:
        return socket.socket(fileno=number)
    except OSError as exc:
        raise ValueError(f"a descriptor is no socket: {exc.strerror}") from exc


@attrs.define(eq=False)
class _PendingGroup:
    adoption: Adoption
    ends: list[_PendingUpstream]

    def begin(self) -> None:
        """See Pending."""
        for end in self.ends:
            end.begin()
        self.adoption.begin()

    def drop(self) -> None:
        """See Pending."""
        for end in self.ends:
            end.drop()
        self.adoption.drop()


@attrs.define(eq=False)
class _PendingUpstream:
    runtime: Runtime
    cluster: Cluster
    found: Upstream
    under: ByteStream
    stream: ByteStream
    downstream: DownstreamConnection | None = None
    """The client's that it is bound to."""

    def begin(self) -> None:
        """See Pending. One that its server has closed meanwhile is seen to be closed before a request gets it."""
        self.runtime.poller.idle()
        try:
            client = self.runtime.registry.codec(self.found.handed.client).traits
            self.cluster.adopt(
                self.found.address, self.stream, self.found.handed, client, self.downstream
            )
        except (ValueError, PluginError) as exc:
            # It waits for no answer: as if its server had closed it.
            _logger.info(
                "takeover: cluster %s: a connection is closed: %s", self.found.cluster, exc
            )
            self.stream.close()

    def drop(self) -> None:
        """See Pending."""
        self.under.close()
