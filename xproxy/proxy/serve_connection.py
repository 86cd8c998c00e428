"""One accepted socket: what it wants, and then its protocol's driver."""

from __future__ import annotations

from collections.abc import Awaitable

from xproxy.codecs.api import (
    Codec,
    CodecPlugin,
    SupportsDate,
    SupportsLocalReply,
    SupportsLocalText,
    supports,
)
from xproxy.connection.date import http_date
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.connection.standing import Moment
from xproxy.model.address import Address
from xproxy.model.traits import Role, Sharing
from xproxy.proxy.connection import Connection, FilterChains, Terms
from xproxy.proxy.opening import Opened, Opening
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.proxy.snapshot import ListenerPlan
from xproxy.proxy.watched import Watched
from xproxy.stream.exchange import ConnectionFacts
from xproxy.transport.timers import Timers


async def open_connection(
    connection: Connection,
    plan: ListenerPlan,
    chains: FilterChains,
    timers: Timers,
    moment: OpeningMoment | None = None,
) -> Awaitable[None] | None:
    """Find out what a connection wants; return what serves it to its end, None if nothing does.

    Whoever calls it awaits that himself: each wake of a connection passes all frames that stand above it. The stream
    is his to close, too, whatever happens. ``moment``: its opening was frozen at it, elsewhere; it was checked.
    """
    # What was read to find out the protocol stays in here: for as long as a connection lives, only its driver does.
    opening = Opening(connection, plan, chains, moment=moment)
    connection.opening = opening
    try:
        opened = await opening.run()
    finally:
        connection.opening = None
    if opened is None:
        # What it sent belongs to no driver, which would have counted it.
        chains.main.stats.downstream_rx_bytes_total += opening.unclaimed
        return None
    plugin = opened.plugin
    codec = plugin.open(Role.SERVER, plan.limits)
    connection.stream.half_close = plugin.traits.half_close
    driver = make_driver(
        connection,
        Terms(plugin, plan.limits, opened.chain, _facts(opening, opened)),
        codec,
        plan,
        timers,
        waited=opened.waited,
    )
    return driver.run(opened.first)


def make_driver(
    connection: Connection,
    terms: Terms,
    codec: Codec,
    plan: ListenerPlan,
    timers: Timers,
    *,
    waited: float = 0.0,
    moment: Moment | None = None,
) -> SerialDownstream | Multiplexed:
    """Give a connection what drives it: a new one, or one that was frozen at ``moment`` elsewhere."""
    if supports(codec, SupportsDate):
        codec.use_clock(http_date)
    stream, facts, chain = connection.stream, terms.facts, terms.chain
    driver: SerialDownstream | Multiplexed
    if terms.plugin.traits.sharing is Sharing.SERIAL:
        driver = SerialDownstream(stream, codec, facts, chain, timers, waited=waited, moment=moment)
    else:
        limits = plan.config.limits
        driver = Multiplexed(
            stream,
            codec,
            Role.SERVER,
            facts,
            chain,
            timers,
            max_outbox_bytes=limits.max_outbox_bytes,
            max_message_bytes=limits.max_message_bytes,
            write_stall=plan.config.timeouts.write,
            moment=moment,
        )
    connection.terms = terms
    connection.drive_by(driver)
    if chain.draining:
        driver.drain()
    return driver


def facts_of(
    connection: Connection,
    listener: str,
    plugin: CodecPlugin | Watched,
    peer: Address,
    local: Address,
) -> ConnectionFacts:
    """Return what is known of a connection, but for its TLS."""
    return ConnectionFacts(
        id=connection.id,
        listener=listener,
        protocol=plugin.name,
        traits=plugin.traits,
        share=connection.share,
        peer=peer,
        local=local,
        destination=connection.destination,
        code_of=plugin.code_of if supports(plugin, SupportsLocalReply) else None,
        text_of=plugin.text_of if supports(plugin, SupportsLocalText) else None,
    )


def _facts(opening: Opening, opened: Opened) -> ConnectionFacts:
    facts = facts_of(
        opening.connection, opening.plan.config.name, opened.plugin, opening.peer, opening.local
    )
    session, hello = opening.session, opening.hello
    if session is not None:
        facts.tls = True
        facts.sni = session.sni
        facts.alpn = session.alpn
        facts.tls_version = session.version
        facts.tls_cipher = session.cipher
        facts.peer_identity = session.peer_identity
    elif hello is not None:
        facts.sni = hello.server_name
        facts.alpn = hello.alpn[0] if hello.alpn else None
    return facts
