"""A connection that was accepted in another process: what is written of it, and going on with it.

What a client was told goes along: the limits and options that its codec was opened with hold for as long as it lives,
whatever the configuration says by now. New values hold for new connections.
"""

from __future__ import annotations

import contextlib
import enum
import socket
import types
import typing
from collections.abc import Awaitable
from pathlib import PurePath
from typing import TypeAlias

import attrs
import trio

from xproxy.codecs.api import CodecPlugin, RestoringPlugin, supports
from xproxy.config.codecs import options_class
from xproxy.connection.standing import Moment
from xproxy.model.address import Address
from xproxy.model.errors import PluginError
from xproxy.model.limits import Limits
from xproxy.model.traits import Role
from xproxy.proxy.active_listener import ActiveListener, Drive
from xproxy.proxy.connection import Connection, Terms
from xproxy.proxy.opening_moment import OpeningMoment
from xproxy.proxy.serve_connection import facts_of, make_driver
from xproxy.proxy.watched import Watched
from xproxy.registry import Registry
from xproxy.transport.stream import ByteStream
from xproxy.transport.timers import Timers
from xproxy.transport.tls.stream import resume

Options: TypeAlias = tuple[tuple[str, object], ...]
"""Of a codec, by name: None, bool, int, float, str, bytes and tuples of these."""


@attrs.frozen(kw_only=True)
class Accepted:
    """What is written of every connection that a listener has accepted."""

    id: int
    age: float
    """Seconds since then."""
    listener: str
    address: Address
    """Of the listener, for where its name is another one."""


@attrs.frozen(kw_only=True)
class Described(Accepted):
    """What is written of one whose protocol is known, beside how its driver stands."""

    chain: str
    """Which of the listener's ways to serve: see ``FilterChains``."""
    codec: str
    options: Options = ()
    limits: Limits
    peer: Address
    local: Address
    tls: bool = False
    sni: str | None = None
    alpn: str | None = None
    tls_version: str | None = None
    tls_cipher: str | None = None
    peer_identity: str | None = None
    half_close: bool = False


def accepted(connection: Connection, active: ActiveListener) -> Accepted:
    """Write down a connection whose protocol may not be known yet."""
    return Accepted(
        id=connection.id,
        age=trio.current_time() - connection.opened_at,
        listener=active.config.name,
        address=active.address,
    )


def describe(connection: Connection, active: ActiveListener, codecs: Codecs) -> Described:
    """Write down a connection. Raises ValueError where that cannot be done, and says why."""
    terms = connection.terms
    if terms is None:
        raise ValueError("its protocol is not known yet")
    plugin, facts = terms.plugin, terms.facts
    if isinstance(plugin, Watched):
        raise ValueError("it is not certain what it speaks")
    if _restoring(plugin) is None:
        raise ValueError("its codec cannot be written down")
    return Described(
        id=connection.id,
        age=trio.current_time() - connection.opened_at,
        listener=active.config.name,
        address=active.address,
        chain=active.chains.name_of(terms.chain),
        codec=plugin.name,
        options=codecs.options(plugin),
        limits=terms.limits,
        peer=facts.peer,
        local=facts.local,
        tls=facts.tls,
        sni=facts.sni,
        alpn=facts.alpn,
        tls_version=facts.tls_version,
        tls_cipher=facts.tls_cipher,
        peer_identity=facts.peer_identity,
        half_close=connection.stream.half_close,
    )


class Codecs:
    """Codec plugins by what they were configured with: one object for each set of values."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._options: dict[int, tuple[CodecPlugin, Options]] = {}
        # By the plugin's identity, as long as this lives.
        self._plugins: dict[tuple[str, Options], CodecPlugin] = {}

    def options(self, plugin: CodecPlugin) -> Options:
        """Return a plugin's options. Raises ValueError where one of them cannot be written down."""
        known = self._options.get(id(plugin))
        if known is None:
            names = [field.name for field in attrs.fields(options_class(plugin))]
            found = tuple((name, _plain(name, getattr(plugin, name))) for name in names)
            known = self._options[id(plugin)] = plugin, found
        return known[1]

    def plugin(self, name: str, options: Options) -> CodecPlugin:
        """Return the plugin that has these options. Raises ValueError where there is none, or it has others."""
        plugin = self._plugins.get((name, options))
        if plugin is None:
            plugin = self._plugins[name, options] = self._configured(name, options)
        return plugin

    def _configured(self, name: str, options: Options) -> CodecPlugin:
        try:
            plugin = self._registry.codec(name)
            if self.options(plugin) == options:
                return plugin
            hints = typing.get_type_hints(options_class(plugin))
            values = {key: _typed(value, hints[key]) for key, value in options}
            return self._registry.configured(name, values)
        except (PluginError, ValueError, KeyError) as exc:
            raise ValueError(f"codec {name} with these options is not to be had: {exc}") from exc


def _plain(name: str, value: object) -> object:
    match value:
        case enum.Enum():
            return _plain(name, value.value)
        case None | bool() | int() | float() | str() | bytes():
            return value
        case PurePath():
            return str(value)
        case tuple():
            return tuple(_plain(name, item) for item in value)
    raise ValueError(f"the option {name} of its codec cannot be written down")


def _typed(value: object, hint: object) -> object:
    """Return what ``_plain`` made ``value`` of. Raises ValueError where it cannot have been of this type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, typing.NewType):
        return _typed(value, hint.__supertype__)
    if origin is typing.Literal and value in arguments:
        return value
    if origin in (typing.Union, types.UnionType):
        for one in arguments:
            with contextlib.suppress(ValueError):
                return _typed(value, one)
    if origin is tuple and isinstance(value, tuple):
        return tuple(_typed(item, arguments[0]) for item in value)
    if isinstance(hint, type):
        if issubclass(hint, enum.Enum):
            return hint(value)
        if issubclass(hint, PurePath) and isinstance(value, str):
            return hint(value)
        if type(value) is hint or (hint is float and type(value) is int):
            return value
    raise ValueError(f"{value!r} is no {hint}")


def aged(moment: Moment, seconds: float) -> Moment:
    """Take the time that has passed since a moment off what was left at it."""
    exchange = moment.exchange
    if exchange is not None:
        deadline = max(exchange.deadline - seconds, 0.0)
        exchange = attrs.evolve(exchange, age=exchange.age + seconds, deadline=deadline)
    return attrs.evolve(
        moment,
        left=max(moment.left - seconds, 0.0),
        patience=max(moment.patience - seconds, 0.0),
        exchange=exchange,
    )


def aged_opening(moment: OpeningMoment, seconds: float) -> OpeningMoment:
    """Do so for a connection whose protocol is not known yet."""
    return attrs.evolve(
        moment,
        left=max(moment.left - seconds, 0.0),
        patience=max(moment.patience - seconds, 0.0),
        waited=moment.waited + seconds,
    )


@attrs.define(eq=False)
class Adoption:
    """A connection that can go on here. Exactly one of ``begin`` and ``drop`` is to be called."""

    active: ActiveListener
    connection: Connection
    _under: ByteStream
    _drive: Drive

    def begin(self) -> None:
        """It is ours: serve it."""
        self.active.begin(self.connection, self._drive)

    def drop(self) -> None:
        """It is not ours: close our copy of the socket, of which its peer notices nothing."""
        self.connection.share.holder = None
        self._under.close()


def adopt(
    active: ActiveListener,
    described: Described,
    moment: Moment,
    sock: socket.socket,
    codecs: Codecs,
    timers: Timers,
) -> Adoption:
    """Make a connection that goes on where another process stopped; touch its socket in no way until it begins.

    ``sock`` is closed where it cannot be made. Raises ValueError then.
    """
    sock.setblocking(False)
    try:
        plugin = codecs.plugin(described.codec, described.options)
    except ValueError:
        sock.close()
        raise
    chain = active.chains.by_name(described.chain)
    restoring = _restoring(plugin)
    if chain is None or restoring is None:
        sock.close()
        raise ValueError(f"{described.codec} cannot go on with what was written down")
    connection = active.admit(sock, described.id)
    if connection is None:
        raise Full("no descriptor is left for it, or its listener has stopped")
    under = connection.stream
    try:
        codec = restoring.restore(moment.parts.codec, Role.SERVER, described.limits)
        if moment.parts.stream:
            connection.stream = resume(under, moment.parts.stream)
        connection.opened_at = trio.current_time() - described.age
        facts = facts_of(connection, active.config.name, plugin, described.peer, described.local)
        facts.tls = described.tls
        facts.sni = described.sni
        facts.alpn = described.alpn
        facts.tls_version = described.tls_version
        facts.tls_cipher = described.tls_cipher
        facts.peer_identity = described.peer_identity
        connection.stream.half_close = described.half_close
        terms = Terms(plugin, described.limits, chain, facts)
        make_driver(connection, terms, codec, active.plan, timers, moment=moment)
    except BaseException:
        connection.share.holder = None
        under.close()
        raise
    return Adoption(active, connection, under, _drive)


def adopt_opening(
    active: ActiveListener, found: Accepted, moment: OpeningMoment, sock: socket.socket
) -> Adoption:
    """Do so with one whose protocol is not known yet. Raises ValueError likewise."""
    sock.setblocking(False)
    try:
        moment.check()
        if moment.claims is not (active.config.proxy_protocol is not False):
            raise ValueError(
                "it was accepted with PROXY headers, or without, and that is not so here"
            )
    except ValueError:
        sock.close()
        raise
    connection = active.admit(sock, found.id)
    if connection is None:
        raise Full("no descriptor is left for it, or its listener has stopped")
    connection.opened_at = trio.current_time() - found.age
    return Adoption(active, connection, connection.stream, active.opening(moment))


async def _drive(connection: Connection) -> Awaitable[None]:
    driver = connection.driver
    assert driver is not None  # it was made before
    return driver.run(b"")


def _restoring(plugin: CodecPlugin) -> RestoringPlugin | None:
    return plugin if supports(plugin, RestoringPlugin) else None


class Full(ValueError):
    """There is no room for it now."""
