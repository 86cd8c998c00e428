"""A connection before its protocol is known: PROXY header, silence, TLS, detection; inside TLS detection again.

Each step has its own bound in time, and a drain's grace bounds them all.

Wherever it waits for bytes it can be frozen, but within the handshake: nothing was decided, so who goes on with it
begins with the same bytes (``OpeningMoment``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs
import trio

from xproxy.codecs.api import NO_HINT, CodecPlugin, Hint, VerdictKind
from xproxy.codecs.detect import Detected, Detection, NeedMore, Unrecognised
from xproxy.codecs.tls.hello import ClientHello, HelloBroken, HelloReader, recognise
from xproxy.connection.service import FilterChain
from xproxy.connection.standing import Standing
from xproxy.connection.wire import is_movable
from xproxy.model.address import Address
from xproxy.model.networks import Networks
from xproxy.proxy.connection import Connection, FilterChains
from xproxy.proxy.listener_tls import ListenerTls
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.proxy.snapshot import ListenerPlan
from xproxy.proxy.watched import Watched
from xproxy.stream.held import COUNTED
from xproxy.transport.farewell import linger
from xproxy.transport.proxy_protocol import ProxyHeader, ProxyHeaderError, parse
from xproxy.transport.stream import Moved
from xproxy.transport.tls.alerts import Alert, TlsError, alert_record
from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.gate import TooManyHandshakes
from xproxy.transport.tls.server import accept
from xproxy.transport.tls.stream import resume

_logger = logging.getLogger(__name__)

_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
_UNKNOWN: Final = Alert.UNRECOGNIZED_NAME


@attrs.frozen
class Opened:
    """A connection whose protocol is known."""

    plugin: CodecPlugin | Watched
    first: bytes
    """What has been read of it so far."""
    chain: FilterChain
    waited: float = 0.0
    """Seconds since its first byte came."""


Begun: TypeAlias = Opened | ClientHello | None
"""None: the connection is to be closed."""


@attrs.define(eq=False)
class Opening:
    """Finds out what a connection wants. Afterwards it holds what was found out on the way."""

    connection: Connection
    plan: ListenerPlan
    chains: FilterChains
    header: ProxyHeader | None = None
    """What the PROXY header said."""
    session: TlsFacts | None = None
    """TLS was ended here."""
    hello: ClientHello | None = None
    """TLS was spoken, here or through us."""
    _prefix: bytes = b""
    # Read, and not yet made sense of.
    _counted: int = 0
    # Of it, as the connection's share.
    _ended: bool = False
    # No more will come.
    _since: float = 0.0
    # When the first byte of what is being detected came.
    moment: OpeningMoment | None = attrs.field(default=None, kw_only=True)
    """It was frozen at it, elsewhere, and goes on; None: from here on, or from the first byte."""
    _claim: bytes = b""
    # The PROXY header as it came.
    _patience: trio.CancelScope | None = None
    # Round a wait for who may be silent.
    _left: float = math.inf
    # Seconds, of a step that has begun elsewhere.
    _patience_left: float = math.inf
    # Likewise.
    _waiting: bool = False
    # For bytes of which nothing is decided.
    _over: bool = False
    # All that is left is to tell the client.
    _still: bool = False
    _lefts: tuple[float, float] = (math.inf, math.inf)
    # Of one that stands still: seconds of its step, and of its patience.
    _found: Callable[[], bool] | None = None
    # Whoever would freeze it.
    _thawed: trio.Event | None = None
    # Set when it need no longer stand still in its own task.

    @property
    def peer(self) -> Address:
        """Who called, as far as it is known."""
        claimed = self.header.source if self.header is not None else None
        return claimed or self.connection.stream.peer

    @property
    def local(self) -> Address:
        """Which address was called."""
        claimed = self.header.destination if self.header is not None else None
        return claimed or self.connection.stream.local

    @property
    def unclaimed(self) -> int:
        """Bytes that were read, and that no protocol was found for."""
        return len(self._prefix)

    async def run(self) -> Opened | None:
        """Return the protocol; None: close, everything has been counted and said."""
        plan = self.plan
        if plan.config.proxy_protocol is False and plan.detector is None and plan.tls is None:
            return Opened(plan.opaque, b"", self.chains.main)
        if self.chains.main.draining:
            self.connection.drain(plan.config.timeouts.linger)
        share = self.connection.share
        share.holder = self.connection
        try:
            if self.moment is not None:
                self._restore(self.moment)
                self.moment = None
                if self.session is not None:
                    return await self._inside(self.session)
            begun = await self._begin()
            if not isinstance(begun, ClientHello):
                return begun
            assert plan.tls is not None
            self.hello = begun
            if plan.tls.passes(begun.server_name):
                self.chains.main.stats.downstream_tls_passthrough += 1
                return Opened(plan.opaque, self._prefix, self.chains.main)
            self.session = await self._handshake(plan.tls)
            return await self._inside(self.session) if self.session is not None else None
        except TlsError as exc:
            self._failed(exc)
            await self._tell(exc.alert or Alert.DECODE_ERROR)
            return None
        except Moved:
            self._prefix = b""  # whoever has it counts it
            return None
        except _GONE:
            self.chains.main.stats.downstream_cx_ended_early += 1
            return None
        finally:
            self._over = True
            share.holder = None
            self._count(0)

    def _say(self, text: str, *values: object) -> None:
        _logger.info(f"listener %s: %s: {text}", self.plan.config.name, self.peer, *values)

    async def _read(self) -> bool:
        if self._found is not None:
            await self._sought(self._found)
        self._waiting = True
        try:
            data = await self.connection.stream.read()
        finally:
            self._waiting = False
        if not self._prefix:
            self._since = trio.current_time()
        self._prefix += data
        if self._counted or len(self._prefix) >= COUNTED:
            self._count(len(self._prefix))
        self._ended = not data
        self._patience_left = math.inf
        return not self._ended

    async def _read_within(self, seconds: float) -> bool:
        """Read; return False where nothing came in so many seconds."""
        seconds = max(min(seconds, self._patience_left), 0.0)
        with trio.move_on_after(seconds) as self._patience:
            await self._read()
        patience, self._patience = self._patience, None
        return not patience.cancelled_caught

    def _step(self) -> trio.CancelScope:
        # One step of detection, of which some time may have passed elsewhere.
        left, self._left = self._left, math.inf
        return self.connection.within(self.plan.config.timeouts.detect, left)

    def _count(self, count: int) -> None:
        self.connection.share.change_unfinished(self._counted, count)
        self._counted = count

    # ---- moving to another process

    @property
    def standing(self) -> Standing:
        """Whether it can be frozen: while it waits for bytes of which nothing is decided."""
        connection = self.connection
        if self._over or connection.draining:
            return Standing.NEVER
        if self._still or connection.overdue:
            return Standing.NOT_NOW
        if self._thawed is not None:
            return Standing.IDLE  # it asks whoever seeks it
        if self._waiting:
            stream = connection.stream
            return Standing.IDLE if is_movable(stream) and stream.awaited else Standing.NOT_NOW
        return Standing.BUSY  # amid a handshake, or a step that ends at once

    def seek(self, found: Callable[[], bool] | None) -> None:
        """See SupportsSeek: ``found`` is called each time before it waits."""
        self._found = found

    def freeze(self) -> OpeningMoment:
        """Stand still: nothing is read or timed until ``thaw`` or ``leave``. Call it on one that is idle.

        Raises ValueError if its stream cannot be given away, TlsError if its TLS session cannot; then it goes on.
        """
        stream = self.connection.stream
        if not is_movable(stream):
            raise ValueError("its stream cannot be given to another process")
        sock = stream.suspend()
        try:
            state = stream.export()
        except BaseException:
            stream.resume()
            raise
        now = trio.current_time()
        patience = self._patience.deadline - now if self._patience is not None else math.inf
        if self._patience is not None:
            self._patience.deadline = math.inf
        self._lefts = self.connection.stand_still(), patience
        self._still = True
        return OpeningMoment(
            prefix=self._prefix,
            header=self._claim,
            stream=state,
            left=self._lefts[0],
            patience=patience,
            waited=now - self._since if self._prefix else 0.0,
            sock=sock,
        )

    def thaw(self) -> None:
        """Go on as if nothing had been, with the time that was left."""
        self._still = False
        left, patience = self._lefts
        self.connection.go_on(left)
        if self._patience is not None:
            self._patience.deadline = trio.current_time() + patience
        if self._thawed is not None:
            self._thawed.set()
        stream = self.connection.stream
        assert is_movable(stream)  # it was frozen
        stream.resume()

    def leave(self) -> None:
        """Another process goes on with it: ``run`` returns, and the client notices nothing."""
        self._over = True
        stream = self.connection.stream
        assert is_movable(stream)  # it was frozen
        stream.leave()
        if self._thawed is not None:
            self._thawed.set()

    async def _sought(self, found: Callable[[], bool]) -> None:
        """Let whoever would freeze it do so, and stand still for as long as it is frozen. Raises Moved."""
        if self.connection.overdue or self.connection.draining:
            return
        self._thawed = trio.Event()
        try:
            if found() and self._still:
                await self._thawed.wait()
        finally:
            self._thawed = None
        if self._over:
            raise Moved("another process has the connection")

    def _restore(self, moment: OpeningMoment) -> None:
        self._left, self._patience_left = moment.left, moment.patience
        self._claim = moment.header
        self.header = moment.parsed_header()
        if moment.prefix:
            self._prefix = moment.prefix
            self._since = trio.current_time() - moment.waited
            if len(self._prefix) >= COUNTED:
                self._count(len(self._prefix))
        if moment.stream:
            stream = resume(self.connection.stream, moment.stream)
            self.connection.stream = stream
            self.session = stream.facts

    # ---- before TLS, or without

    async def _begin(self) -> Begun:
        plan = self.plan
        config = plan.config
        hello: ClientHello | None = None
        outcome: Detection | None = None
        with self._step() as scope:
            try:
                claims = config.proxy_protocol is not False and self.header is None
                if claims and not await self._read_header(plan.believed):
                    self.chains.main.stats.downstream_cx_ended_early += 1
                    return None  # a probe: it came and went without a word
            except ProxyHeaderError as exc:
                self.chains.main.stats.downstream_cx_proxy_protocol_error += 1
                self._say("%s", exc)
                return None
            if not plan.strict and await self._is_silent():
                return self._silent(NO_HINT)
            if plan.tls is not None:
                hello = await self._read_hello()
            if hello is None and plan.detector is not None:
                outcome = await self._decide(NO_HINT)
        late = scope.cancelled_caught
        if late and self.chains.main.draining:
            return None
        if late and config.proxy_protocol is not False and self.header is None:
            self.chains.main.stats.downstream_cx_proxy_protocol_error += 1
            self._say("no whole PROXY header in %g s (timeouts.detect)", config.timeouts.detect)
            return None
        if hello is not None:
            return hello
        if plan.tls is not None and recognise(self._prefix).kind is VerdictKind.YES:
            in_time = f" in {config.timeouts.detect:g} s (timeouts.detect)" if late else ""
            self._count_failure("hello", f"no whole ClientHello{in_time}")
            return None
        return self._conclude(outcome, NO_HINT, late=late)

    async def _read_header(self, networks: Networks) -> bool:
        """Read the PROXY header. False: the connection ended before its first byte. Raises ProxyHeaderError."""
        peer = self.connection.stream.peer
        if not peer.is_unix and peer.host not in networks:
            raise ProxyHeaderError(
                "the PROXY protocol is not accepted from this address (proxy_protocol.allow)"
            )
        while (header := parse(self._prefix)) is None:
            if not await self._read():
                if not self._prefix:
                    return False
                raise ProxyHeaderError("the connection ended within its PROXY header")
        self.header = header
        self._claim = self._prefix[: header.length]
        self._prefix = self._prefix[header.length :]
        return True

    # ---- whose server speaks first

    async def _is_silent(self) -> bool:
        """Wait for the client's first byte; say whether it is one that listens first."""
        config = self.plan.config.server_first
        if config is None or self._prefix:
            return False
        destination = (self.local, self.session is not None)
        known = self.chains.silent_destinations
        now = trio.current_time()
        wait = config.known_wait if known.known(destination, now) else config.wait
        if await self._read_within(wait):
            return False
        known.note(destination, trio.current_time() + config.remember, config.max_remembered)
        return True

    def _silent(self, hint: Hint) -> Opened:
        self.chains.main.stats.downstream_cx_silent += 1
        return Opened(self._watched(hint), b"", self.chains.silent)

    def _watched(self, hint: Hint) -> CodecPlugin | Watched:
        """Return how to relay a client as raw TCP that may still turn out to speak a protocol of this port."""
        plan = self.plan
        return Watched(plan.opaque, plan.detector, hint) if plan.detector else plan.opaque

    # ---- TLS

    async def _read_hello(self) -> ClientHello | None:
        """Return a whole ClientHello; None: this is no TLS, or it ended too early. Raises TlsError."""
        while (kind := recognise(self._prefix).kind) is VerdictKind.MORE:
            if not await self._read():
                return None
        if kind is VerdictKind.NO:
            return None
        reader = HelloReader()
        while not isinstance(found := reader.read(self._prefix), ClientHello):
            if isinstance(found, HelloBroken):
                raise TlsError(f"no ClientHello: {found.detail}", Alert.DECODE_ERROR)
            while len(self._prefix) < found.at_least:
                if not await self._read():
                    return None
        return found

    async def _handshake(self, tls: ListenerTls) -> TlsFacts | None:
        stats = self.chains.main.stats
        stats.downstream_tls_handshakes_active += 1
        try:
            with self.connection.within(tls.config.handshake_timeout) as scope:
                if tls.server is None:
                    raise TlsError(
                        "no certificate here, and the name is not passed through", _UNKNOWN
                    )
                stream = await accept(self.connection.stream, self._prefix, tls.server)
        except TlsError as exc:
            self._failed(exc)
            if tls.server is None:
                await self._tell(_UNKNOWN)
            return None
        except _GONE as exc:
            self._count_failure("ended", str(exc))
            return None
        finally:
            stats.downstream_tls_handshakes_active -= 1
        if scope.cancelled_caught:
            if not self.chains.main.draining:
                self._count_failure("timeout", "not over in time (tls.handshake_timeout)")
            return None
        stats.downstream_tls_handshakes += 1
        stats.downstream_tls_resumed += stream.facts.resumed
        self.connection.stream = stream
        self._prefix = b""
        return stream.facts

    async def _tell(self, alert: Alert) -> None:
        self._over = True
        # Some bytes of a fresh connection: the kernel has room for them.
        stream = self.connection.stream
        try:
            stream.write_now(alert_record(alert))
            await linger(stream)
        except _GONE:
            pass  # whoever has left need not be told

    def _failed(self, error: TlsError) -> None:
        if isinstance(error, TooManyHandshakes):
            return self._count_failure("overflow", f"{error.detail} (tls.max_handshakes)")
        if error.alert is None:
            return self._count_failure("ended", error.detail)
        told = "told by" if error.received else "told"
        label = error.alert.label
        return self._count_failure(label, f"{error.detail} ({told} the client: {label})")

    def _count_failure(self, reason: str, detail: str) -> None:
        """Count a failed handshake, and say why: one line for each."""
        failed = self.chains.main.stats.downstream_tls_failed
        failed[reason] = failed.get(reason, 0) + 1
        self._say("TLS handshake failed: %s", detail)

    async def _inside(self, session: TlsFacts) -> Opened | None:
        plan = self.plan
        if session.alpn is not None and session.alpn in plan.by_alpn:
            # Agreed on: nothing is to be found out, and the server's side may have the first word.
            return Opened(plan.by_alpn[session.alpn], b"", self.chains.main)
        if plan.detector is None:
            return Opened(plan.opaque, b"", self.chains.main)
        hint = Hint(tls=True, alpn=session.alpn, sni=session.sni)
        outcome: Detection | None = None
        with self._step() as scope:
            if await self._is_silent():
                return self._silent(hint)
            outcome = await self._decide(hint)
        if scope.cancelled_caught and self.chains.main.draining:
            return None
        return self._conclude(outcome, hint, late=scope.cancelled_caught)

    # ---- detection

    async def _decide(self, hint: Hint) -> Detection:
        """Read until it is decided, or nothing more comes: no end of input, no byte that a fallback waits for."""
        plan = self.plan
        assert plan.detector is not None
        silence = math.inf
        if plan.fallback is not None and not (plan.strict and self.session is None):
            silence = plan.config.timeouts.detect_silence or math.inf
        outcome = plan.detector.decide(self._prefix, hint)
        while isinstance(outcome, NeedMore) and not self._ended:
            if outcome.sole and plan.fallback is None:
                return plan.detector.conclude(self._prefix, hint)
            if outcome.faint and self._prefix and silence < math.inf:
                if not await self._read_within(silence):
                    break  # it might be anybody's, and a server may have the next word
            else:
                await self._read()
            if not self._ended:
                outcome = plan.detector.decide(self._prefix, hint)
        return outcome

    def _conclude(self, outcome: Detection | None, hint: Hint, *, late: bool) -> Opened | None:
        """Make the best of what is there now. ``outcome`` is None where time was up, or nothing is to be detected."""
        plan, stats, prefix = self.plan, self.chains.main.stats, self._prefix
        refused = plan.strict and self.session is None
        if plan.detector is None and not refused:
            return Opened(plan.opaque, prefix, self.chains.main)
        certain = isinstance(outcome, Detected | Unrecognised)
        if plan.detector is not None and not certain:
            outcome = plan.detector.conclude(prefix, hint)
        plugin = outcome.plugin if isinstance(outcome, Detected) else None
        if plugin is None and not prefix and (self._ended or self.connection.stream.hung_up):
            stats.downstream_cx_ended_early += 1
            return None  # it came and went without a word
        if refused and prefix:
            return self._refuse_plaintext(plugin)
        if plugin is None and prefix and plan.only is not None and not late:
            # Nothing else can be meant here, so it is that protocol spoken badly: its codec says so in its own words.
            plugin = plan.only
        if plugin is not None:
            waited = trio.current_time() - self._since if prefix else 0.0
            return Opened(plugin, prefix, self.chains.main, waited)
        stats.downstream_cx_unknown_protocol += 1
        meant = isinstance(outcome, Unrecognised) and outcome.meant
        if plan.fallback is not None and not refused and not meant:
            relay = plan.opaque if certain else self._watched(hint)
            return Opened(relay, prefix, self.chains.fallback)
        self._say(
            "no codec recognises the first %d bytes%s",
            len(prefix),
            " (timeouts.detect)" if late else "",
        )
        return None

    def _refuse_plaintext(self, plugin: CodecPlugin | None) -> Opened | None:
        self.chains.main.stats.downstream_tls_plaintext_refused += 1
        self._say("plaintext refused: this port takes TLS only (tls.mode)")
        # Whoever can be told in its own protocol is told.
        return Opened(plugin, self._prefix, self.chains.refusal) if plugin is not None else None
