"""One accepted socket: PROXY header, detection, and then its protocol's driver."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Protocol

import attrs
import trio

from xproxy.codecs.api import NO_HINT, CodecPlugin, SupportsLocalReply
from xproxy.codecs.detect import Detected, NeedMore
from xproxy.connection.multiplexed import Multiplexed
from xproxy.connection.serial_downstream import SerialDownstream
from xproxy.connection.service import Port
from xproxy.model.networks import Networks
from xproxy.model.traits import Role, Sharing
from xproxy.proxy.snapshot import ListenerPlan
from xproxy.stream.exchange import ConnectionFacts
from xproxy.transport.proxy_protocol import ProxyHeader, ProxyHeaderError, parse
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers

_logger = logging.getLogger(__name__)


class Driver(Protocol):
    """What drives a connection once its protocol is known."""

    def run(self, first: bytes) -> Awaitable[None]: ...

    def drain(self) -> None: ...


@attrs.define(eq=False)
class Connection:
    """An accepted connection, from its first moment: what a drain, and later a takeover, must know."""

    id: int
    stream: ByteStream
    driver: Driver | None = None
    """None until the protocol is known."""
    scope: trio.CancelScope | None = None
    """Round what comes before the protocol is known."""

    def drain(self, grace: float) -> None:
        """Finish what is in flight, then close. One that has not said yet what it wants has ``grace`` seconds to."""
        if self.driver is not None:
            self.driver.drain()
        elif self.scope is not None:
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + grace)


@attrs.define(eq=False)
class Ports:
    """A listener's two ways to serve: by its routes, and what nobody recognised."""

    main: Port
    fallback: Port


async def serve_connection(
    connection: Connection, plan: ListenerPlan, ports: Ports, timers: Timers
) -> None:
    """Serve one connection to its end. Closes it, whatever happens."""
    stream = connection.stream
    try:
        chosen = await _recognise(connection, plan, ports.main)
        if chosen is None:
            return
        plugin, first, header, port = (*chosen[:3], ports.fallback if chosen[3] else ports.main)
        facts = ConnectionFacts(
            id=connection.id,
            listener=plan.config.name,
            protocol=plugin.name,
            traits=plugin.traits,
            peer=(header.source if header is not None else None) or stream.peer,
            local=(header.destination if header is not None else None) or stream.local,
            code_of=plugin.code_of if isinstance(plugin, SupportsLocalReply) else None,
        )
        codec = plugin.open(Role.SERVER, plan.limits)
        driver: SerialDownstream | Multiplexed
        if plugin.traits.sharing is Sharing.SERIAL:
            driver = SerialDownstream(stream, codec, facts, port, timers)
        else:
            limits = plan.config.limits
            driver = Multiplexed(
                stream,
                codec,
                Role.SERVER,
                facts,
                port,
                timers,
                max_outbox_bytes=limits.max_outbox_bytes,
                max_message_bytes=limits.max_message_bytes,
                write_stall=plan.config.timeouts.write,
            )
        stream.half_close = plugin.traits.half_close
        connection.driver = driver
        if port.draining:
            driver.drain()
        await driver.run(first)
    finally:
        stream.close()


async def _recognise(
    connection: Connection, plan: ListenerPlan, port: Port
) -> tuple[CodecPlugin, bytes, ProxyHeader | None, bool] | None:
    # The plugin, the bytes read so far, the PROXY header, and whether it is the fallback; None: close.
    stream = connection.stream
    prefix = b""
    header: ProxyHeader | None = None
    expect = plan.config.proxy_protocol
    if expect is False and plan.detector is None:
        return plan.opaque, b"", None, False
    timeouts = plan.config.timeouts
    with trio.move_on_after(timeouts.linger if port.draining else timeouts.detect or 1e9) as scope:
        connection.scope = scope
        try:
            if expect is not False:
                header, prefix = await _proxy_header(stream, plan.believed)
            outcome = None if plan.detector is None else plan.detector.decide(prefix)
            while isinstance(outcome, NeedMore):
                data = await stream.read()
                if not data:
                    break
                prefix += data
                assert plan.detector is not None
                outcome = plan.detector.decide(prefix)
        except ProxyHeaderError as exc:
            port.stats.downstream_cx_proxy_protocol_error += 1
            _logger.info("listener %s: %s: %s", plan.config.name, stream.peer, exc)
            return None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            port.stats.downstream_cx_ended_early += 1
            return None
    connection.scope = None
    if scope.cancelled_caught:
        if port.draining:
            return None
        if expect is not False and header is None:
            port.stats.downstream_cx_proxy_protocol_error += 1
            _logger.info(
                "listener %s: %s: no whole PROXY header in %g s (timeouts.detect)",
                plan.config.name,
                stream.peer,
                plan.config.timeouts.detect,
            )
            return None
    if plan.detector is None:
        return plan.opaque, prefix, header, False
    if isinstance(outcome, Detected):
        return outcome.plugin, prefix, header, False
    if not prefix and stream.hung_up:
        port.stats.downstream_cx_ended_early += 1
        return None  # it came and went without a word
    final = plan.detector.conclude(prefix, NO_HINT)
    if isinstance(final, Detected):
        return final.plugin, prefix, header, False
    if prefix and plan.only is not None and not scope.cancelled_caught:
        # Nothing else can be meant here, so it is that protocol spoken badly: its codec says so in its own words.
        return plan.only, prefix, header, False
    port.stats.downstream_cx_unknown_protocol += 1
    if plan.fallback is not None:
        return plan.opaque, prefix, header, True
    _logger.info(
        "listener %s: %s: no codec recognises the first %d bytes%s",
        plan.config.name,
        stream.peer,
        len(prefix),
        " (timeouts.detect)" if scope.cancelled_caught else "",
    )
    return None


async def _proxy_header(stream: ByteStream, networks: Networks) -> tuple[ProxyHeader, bytes]:
    if not stream.peer.is_unix and stream.peer.host not in networks:
        raise ProxyHeaderError(
            "the PROXY protocol is not accepted from this address (proxy_protocol.allow)"
        )
    prefix = b""
    while True:
        header = parse(prefix)
        if header is not None:
            return header, prefix[header.length :]
        data = await stream.read()
        if not data:
            raise ProxyHeaderError("the connection ended within its PROXY header")
        prefix += data
