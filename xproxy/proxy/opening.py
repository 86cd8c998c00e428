"""A connection before its protocol is known: PROXY header, silence, TLS, detection; inside TLS detection again.

Each step has its own bound in time, and a drain's grace bounds them all.

Wherever it waits for bytes it can be frozen (``OpeningReader``), but within the handshake: nothing was decided, so
whoever goes on with it begins with the same bytes.
"""

from __future__ import annotations

import logging
import math
from typing import Final, TypeAlias

import attrs
import trio

from xproxy.codecs.api import NO_HINT, CodecPlugin, Hint, VerdictKind
from xproxy.codecs.detect import Detected, Detection, NeedMore, Unrecognised
from xproxy.codecs.tls.hello import ClientHello, HelloBroken, HelloReader, recognise
from xproxy.connection.service import FilterChain
from xproxy.model.address import Address
from xproxy.model.networks import Networks
from xproxy.proxy.connection import FilterChains
from xproxy.proxy.listener_tls import ListenerTls
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.proxy.opening_reader import OpeningReader
from xproxy.proxy.snapshot import ListenerPlan
from xproxy.proxy.watched import Watched
from xproxy.transport.farewell import linger
from xproxy.transport.proxy_protocol import ProxyHeader, ProxyHeaderError, parse
from xproxy.transport.stream import Moved
from xproxy.transport.tls.alerts import Alert, TlsError, alert_record
from xproxy.transport.tls.facts import TlsFacts
from xproxy.transport.tls.gate import TooManyHandshakes
from xproxy.transport.tls.server import accept

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
class Opening(OpeningReader):
    """Finds out what a connection wants. Afterwards it holds what was found out on the way."""

    plan: ListenerPlan
    chains: FilterChains
    header: ProxyHeader | None = None
    """What the PROXY header said."""
    session: TlsFacts | None = None
    """TLS was ended here."""
    hello: ClientHello | None = None
    """TLS was spoken, here or through us."""
    moment: OpeningMoment | None = attrs.field(default=None, kw_only=True)
    """It was frozen at it, elsewhere, and goes on; None: from here on, or from the first byte."""

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
        self._claims = plan.config.proxy_protocol is not False
        if self.chains.main.draining:
            self.connection.drain(plan.config.timeouts.linger)
        share = self.connection.share
        share.holder = self.connection
        try:
            if self.moment is not None:
                self.header = self.moment.parsed_header()
                self.session = self._restore(self.moment)
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

    # ---- before TLS, or without

    async def _begin(self) -> Begun:
        plan = self.plan
        config = plan.config
        hello: ClientHello | None = None
        outcome: Detection | None = None
        with self._step(config.timeouts.detect) as scope:
            try:
                if (
                    self._claims
                    and self.header is None
                    and not await self._read_header(plan.believed)
                ):
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
        with self._step(plan.config.timeouts.detect) as scope:
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
