"""Whether a connection could go on here, tried without it: what was written of it is read, and written again."""

from __future__ import annotations

from xproxy.codecs.api import RestoringPlugin, SupportsSnapshot, supports
from xproxy.connection.standing import Moment
from xproxy.migration.packing import Upstream
from xproxy.migration.serving import opened
from xproxy.migration.tally import Tally
from xproxy.migration.waiting import Waiting
from xproxy.model.limits import Limits
from xproxy.model.traits import Role, Traits
from xproxy.proxy.active_listener import ActiveListener
from xproxy.proxy.adopting import Codecs, Described
from xproxy.proxy.runtime import Runtime
from xproxy.transport.tls.state import dump, load
from xproxy.upstream.cluster import Cluster


def rehearse(active: ActiveListener, described: Described, moment: Moment, codecs: Codecs) -> None:
    """Raise ValueError where a connection could not go on here, or would not be the same: bytes are compared."""
    plugin = codecs.plugin(described.codec, described.options)
    if active.chains.by_name(described.chain) is None or not supports(plugin, RestoringPlugin):
        raise ValueError(f"{described.codec} cannot go on with what was written down")
    _same(plugin, described.limits, moment, Role.SERVER)


def rehearse_upstream(cluster: Cluster, found: Upstream, client: Traits) -> None:
    """Do so for a connection to an endpoint; ``client``: of the codec ``found.handed.client``."""
    plugin, limits = cluster.restores(found.address, found.handed, client)
    if not supports(plugin, RestoringPlugin):
        raise ValueError(f"{found.handed.protocol} cannot go on with what was written down")
    _same(plugin, limits, found.handed.moment, Role.CLIENT)


def _same(plugin: RestoringPlugin, limits: Limits, moment: Moment, role: Role) -> None:
    codec = plugin.restore(moment.parts.codec, role, limits)
    if not supports(codec, SupportsSnapshot) or codec.snapshot() != moment.parts.codec:
        raise ValueError("its codec would go on with something else")
    state = moment.parts.stream
    if state and dump(load(state)) != state:
        raise ValueError("its TLS session would go on with something else")


def untried(runtime: Runtime, clients: Waiting, tally: Tally) -> None:
    """Count what a rehearsal could not try, and why: what is in use, and is looked at when it moves."""
    tally.untried.update(clients.why_waiting())
    every = (*tally.moved.items(), *tally.refused.items())
    tried = sum(count for name, count in every if name.startswith("upstream "))
    if (left := opened(runtime) - tried) > 0:
        tally.untried["upstream: in use, or being opened"] += left
