"""Whether a connection could go on here, tried without it: what was written of it is read, and written again."""

from __future__ import annotations

from xproxy.codecs.api import RestoringPlugin, SupportsSnapshot, supports
from xproxy.connection.standing import Moment
from xproxy.model.traits import Role
from xproxy.proxy.active_listener import ActiveListener
from xproxy.proxy.adopting import Codecs, Described
from xproxy.transport.tls.state import dump, load


def rehearse(active: ActiveListener, described: Described, moment: Moment, codecs: Codecs) -> None:
    """Raise ValueError where a connection could not go on here, or would not be the same: bytes are compared."""
    plugin = codecs.plugin(described.codec, described.options)
    if active.chains.by_name(described.chain) is None or not supports(plugin, RestoringPlugin):
        raise ValueError(f"{described.codec} cannot go on with what was written down")
    codec = plugin.restore(moment.parts.codec, Role.SERVER, described.limits)
    if not supports(codec, SupportsSnapshot) or codec.snapshot() != moment.parts.codec:
        raise ValueError(f"{described.codec} would go on with something else")
    state = moment.parts.stream
    if state and dump(load(state)) != state:
        raise ValueError("its TLS session would go on with something else")
