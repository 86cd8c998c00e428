"""One accepted socket: what it wants, and then its protocol's driver."""

from __future__ import annotations

from xproxy.codecs.api import SupportsLocalReply, SupportsLocalText, supports
from xproxy.connection.multiplexed import Multiplexed
from xproxy.connection.serial_downstream import SerialDownstream
from xproxy.model.traits import Role, Sharing
from xproxy.proxy.connection import Connection, Ports
from xproxy.proxy.opening import Opened, Opening
from xproxy.proxy.snapshot import ListenerPlan
from xproxy.stream.exchange import ConnectionFacts
from xproxy.transport.timers import Timers


async def serve_connection(
    connection: Connection, plan: ListenerPlan, ports: Ports, timers: Timers
) -> None:
    """Serve one connection to its end. Closes it, whatever happens."""
    try:
        opening = Opening(connection, plan, ports)
        opened = await opening.run()
        if opened is None:
            return
        port, traits = opened.port, opened.plugin.traits
        facts = _facts(opening, opened)
        stream = connection.stream
        codec = opened.plugin.open(Role.SERVER, plan.limits)
        driver: SerialDownstream | Multiplexed
        if traits.sharing is Sharing.SERIAL:
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
        stream.half_close = traits.half_close
        connection.driver = driver
        if port.draining:
            driver.drain()
        await driver.run(opened.first)
    finally:
        connection.stream.close()


def _facts(opening: Opening, opened: Opened) -> ConnectionFacts:
    plugin = opened.plugin
    facts = ConnectionFacts(
        id=opening.connection.id,
        listener=opening.plan.config.name,
        protocol=plugin.name,
        traits=plugin.traits,
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
