"""Asking DNS: over UDP, over TCP where an answer is too long, as resolv.conf(5) says or of given servers.

Where no server answers, each question keeps its last answer: one that fails takes nothing from the others. Where a
server says that a name has nothing at all any more, it keeps what it had.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import attrs
import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import trio

from xproxy.model.address import Address
from xproxy.upstream.discovery.dns_answers import Answered, Family, chosen, read_answer
from xproxy.upstream.discovery.hosts_file import HostsFile

MOST_AT_A_TIME: Final = 16
"""Questions of one cluster that are under way; the others wait for them."""
_HOSTS_TTL: Final = 5
"""Seconds after which the hosts file is looked at again."""


MOST_REMEMBERED: Final = 4096
"""Answers of one cluster that are kept for when there is none; of more the oldest are forgotten."""


class NotFound(Exception):
    """A question has no answer; says why. ``definite``: a server has said that there is none."""

    def __init__(self, why: str, *, definite: bool = False) -> None:
        super().__init__(why)
        self.definite = definite


@attrs.define(eq=False)
class Questions:
    """What one cluster asks, and what it was told last."""

    servers: Sequence[Address]
    """Whom to ask; none: as the system does."""
    resolv_conf: str
    hosts: HostsFile
    family: Family
    timeout: float
    """Seconds that one question may take, all attempts together."""
    _known: dict[tuple[str, str], Answered] = attrs.field(factory=dict)
    _resolver: dns.asyncresolver.Resolver | None = None
    _seen: object = None
    _slots: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(MOST_AT_A_TIME))
    failures: list[str] = attrs.field(factory=list)
    """What could not be answered since somebody last looked; an old answer stood in for it if there was one."""

    async def addresses(self, name: str) -> Answered:
        """Return the addresses of a host, as the family has it. Never raises: nothing known is no address."""
        local = self.hosts.find(name)
        if local:
            return self._of_family(
                Answered(tuple(a for a in local if ":" not in a), ttl=_HOSTS_TTL),
                Answered(tuple(a for a in local if ":" in a), ttl=_HOSTS_TTL),
            )
        kinds = [
            kind
            for kind, without in (("A", "v6_only"), ("AAAA", "v4_only"))
            if self.family != without
        ]
        found: dict[str, Answered] = {}
        missing: list[str] = []

        async def ask(kind: str) -> None:
            try:
                found[kind] = await self._ask(name, kind)
            except NotFound as exc:
                missing.append(str(exc))

        await _together([partial(ask, kind) for kind in kinds])
        answered = self._of_family(found.get("A", Answered()), found.get("AAAA", Answered()))
        if answered.addresses:
            self._remember(name, "", answered)
            return answered
        self.failures += missing[:1]
        return self._remembered(name, "")

    def _of_family(self, v4: Answered, v6: Answered) -> Answered:
        addresses = tuple(chosen(self.family, v4.addresses, v6.addresses))
        return Answered(addresses, ttl=min(v4.ttl, v6.ttl))

    async def services(self, name: str) -> tuple[Answered, dict[str, Answered]]:
        """Return the SRV records of a name, and the addresses of each of their targets. Never raises."""
        try:
            answered = await self._ask(name, "SRV")
        except NotFound as exc:
            self.failures.append(str(exc))
            answered = self._remembered(name, "SRV")
        found: dict[str, Answered] = {}

        async def ask(target: str) -> None:
            found[target] = await self.addresses(target)

        targets = dict.fromkeys(one.target for one in answered.services)
        await _together([partial(ask, target) for target in targets])
        return answered, found

    async def _ask(self, name: str, kind: str) -> Answered:
        """Return the answer to one question, or where no server answers the last one there was. Raises NotFound."""
        async with self._slots:
            try:
                found = await self._answer(name, kind)
            except NotFound as exc:
                if exc.definite or (name, kind) not in self._known:
                    raise
                self.failures.append(str(exc))
                return self._remembered(name, kind)
        self._remember(name, kind, found)
        return found

    def _remember(self, name: str, kind: str, answered: Answered) -> None:
        self._known.pop((name, kind), None)
        self._known[name, kind] = answered
        if len(self._known) > MOST_REMEMBERED:
            del self._known[next(iter(self._known))]

    def _remembered(self, name: str, kind: str) -> Answered:
        # When it expires has been told already: it is not a reason to ask sooner.
        return attrs.evolve(self._known.get((name, kind), Answered()), ttl=Answered().ttl)

    async def _answer(self, name: str, kind: str) -> Answered:
        try:
            answer = await self._current().resolve(
                name,
                kind,
                lifetime=self.timeout,
                search=True,
                raise_on_no_answer=False,
                backend=dns.asyncbackend.get_backend("trio"),
            )
            found = read_answer(answer)
        except dns.resolver.NXDOMAIN:
            raise NotFound(f"{name}: there is no such name (NXDOMAIN)", definite=True) from None
        except dns.exception.Timeout:
            raise NotFound(f"{name} {kind}: no answer within {self.timeout:g} s") from None
        except dns.resolver.NoNameservers as exc:
            raise NotFound(f"{name} {kind}: no server has answered it: {_reason(exc)}") from exc
        except (dns.exception.DNSException, OSError, ValueError) as exc:
            raise NotFound(f"{name} {kind}: {type(exc).__name__}: {exc}") from exc
        if not (found.addresses or found.services):
            raise NotFound(f"{name}: it has no {kind} record", definite=True)
        return found

    def _current(self) -> dns.asyncresolver.Resolver:
        if self.servers:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver(configure=False)
                self._resolver.nameservers = [
                    dns.nameserver.Do53Nameserver(one.host, one.port) for one in self.servers
                ]
            return self._resolver
        status = os.stat(self.resolv_conf)
        seen = status.st_ino, status.st_mtime_ns, status.st_size
        if self._resolver is None or seen != self._seen:
            self._resolver = dns.asyncresolver.Resolver(self.resolv_conf)
            self._seen = seen
        return self._resolver


def _reason(exc: dns.resolver.NoNameservers) -> str:
    # dnspython's message names the whole query of each attempt; the last thing that went wrong is what matters.
    return str(exc).rpartition("answered ")[2][:200]


async def _together(asked: Sequence[Callable[[], Awaitable[None]]]) -> None:
    async with trio.open_nursery() as nursery:
        for ask in asked:
            nursery.start_soon(ask)
