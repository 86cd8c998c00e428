"""One accepted socket: what it wants, and then its protocol's driver."""

from __future__ import annotations

from collections.abc import Awaitable

from xproxy.codecs.api import SupportsDate, SupportsLocalReply, SupportsLocalText, supports
from xproxy.connection.date import http_date
from xproxy.connection.serial.downstream import SerialDownstream
from xproxy.connection.shared.multiplexed import Multiplexed
from xproxy.model.traits import Role, Sharing
from xproxy.proxy.connection import Connection, FilterChains
from xproxy.proxy.opening import Opened, Opening
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.proxy.snapshot import ListenerPlan
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
    chain, traits = opened.chain, opened.plugin.traits
    facts = _facts(opening, opened)
    stream = connection.stream
    codec = opened.plugin.open(Role.SERVER, plan.limits)
    if supports(codec, SupportsDate):
        codec.use_clock(http_date)
    driver: SerialDownstream | Multiplexed
    if traits.sharing is Sharing.SERIAL:
        driver = SerialDownstream(stream, codec, facts, chain, timers, waited=opened.waited)
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
        )
    stream.half_close = traits.half_close
    connection.drive_by(driver)
    if chain.draining:
        driver.drain()
    return driver.run(opened.first)


def _facts(opening: Opening, opened: Opened) -> ConnectionFacts:
    plugin = opened.plugin
    facts = ConnectionFacts(
        id=opening.connection.id,
        listener=opening.plan.config.name,
        protocol=plugin.name,
        traits=plugin.traits,
        share=opening.connection.share,
        peer=opening.peer,
        local=opening.local,
        code_of=plugin.code_of if supports(plugin, SupportsLocalReply) else None,
        text_of=plugin.text_of if supports(plugin, SupportsLocalText) else None,
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
