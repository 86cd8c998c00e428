"""``type: dns``: the names among a cluster's endpoints are looked up, again and again (idea: Envoy's STRICT_DNS)."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

import attrs
import trio
from attrs.validators import gt

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.model.limits import Duration
from xproxy.upstream.discovery.api import Asked
from xproxy.upstream.discovery.backoff import Backoff
from xproxy.upstream.discovery.dns_answers import (
    Family,
    named_endpoints,
    once_each,
    service_endpoints,
)
from xproxy.upstream.discovery.dns_questions import Questions
from xproxy.upstream.discovery.hosts_file import HostsFile


@attrs.frozen(kw_only=True)
class Dns:
    """Endpoints are the addresses behind names: those in ``endpoints``, and those that SRV records lead to.

    A name whose look-up fails, or has no address any more, keeps the last ones. Endpoints that are addresses stay as
    they are.
    """

    mode: Literal["strict", "logical"] = "strict"
    """``strict``: each address is an endpoint. ``logical``: a name is one endpoint, whose new connections go to the
    first address of the last answer; those that are open stay."""
    lookup_family: Family = "auto"
    """Addresses that count: of IPv6, else IPv4 (``auto``); of IPv4, else IPv6 (``v4_preferred``); of both (``all``);
    or of one alone."""
    srv: tuple[str, ...] = ()
    """Names of services, such as ``_http._tcp.example.org``, whose SRV records say host, port, weight, priority."""
    respect_ttl: bool = True
    """Look up again when an answer has expired, within the two bounds; else after ``refresh``."""
    refresh: Duration = attrs.field(default=Duration(5.0), validator=gt(Duration(0)))
    """Between two look-ups, without ``respect_ttl``; and after a failure at most, at first: then twice as long each
    time, up to 30 s."""
    min_ttl: Duration = attrs.field(default=Duration(1.0), validator=gt(Duration(0)))
    """An answer that expires sooner holds for so long."""
    max_ttl: Duration = attrs.field(default=Duration(300.0), validator=gt(Duration(0)))
    """An answer that expires later holds for so long."""
    timeout: Duration = attrs.field(default=Duration(5.0), validator=gt(Duration(0)))
    """Of one look-up, with all its attempts."""
    resolvers: tuple[Address, ...] = ()
    """Servers to ask, by address; none: those of ``resolv_conf``."""
    resolv_conf: str = "/etc/resolv.conf"
    """Where servers, search domains and ``ndots`` stand."""
    hosts: str = "/etc/hosts"
    """Names that are not looked up. Empty: there are none but localhost."""

    def refusal(self, endpoints: Sequence[EndpointConfig]) -> str:
        """See SupportsEndpointsCheck."""
        for server in self.resolvers:
            if server.is_unix or not _is_ip(server.host):
                return f"a resolver is an IP address and a port, not {server}"
        if self.min_ttl > self.max_ttl:
            return "min_ttl is above max_ttl"
        return "" if endpoints or self.srv else "it needs names, in `endpoints` or `srv`"

    async def discover(self, asked: Asked) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        """See Discovery."""
        questions = Questions(
            self.resolvers,
            self.resolv_conf,
            HostsFile(self.hosts),
            self.lookup_family,
            self.timeout,
        )
        backoff = Backoff(asked.random, self.refresh)
        last: list[EndpointConfig] = []
        while True:
            endpoints, ttl = await self._look(questions, asked.endpoints)
            failures, questions.failures = questions.failures, []
            if endpoints and (endpoints != last or not failures):
                last = endpoints
                yield endpoints
            pause = min(max(ttl, self.min_ttl), self.max_ttl) if self.respect_ttl else self.refresh
            if failures:
                asked.failed("; ".join(dict.fromkeys(failures)))
                pause = min(pause, backoff.delay())
            else:
                backoff.reset()
            await trio.sleep(pause)

    async def _look(
        self, questions: Questions, configs: Sequence[EndpointConfig]
    ) -> tuple[list[EndpointConfig], float]:
        found: list[list[EndpointConfig]] = [[] for _ in (*configs, *self.srv)]
        ttls: list[float] = [self.max_ttl]

        async def host(index: int, config: EndpointConfig) -> None:
            answered = await questions.addresses(config.address.host)
            found[index] = named_endpoints(
                config, answered.addresses, logical=self.mode == "logical"
            )
            ttls.append(answered.ttl)

        async def service(index: int, name: str) -> None:
            answered, targets = await questions.services(name)
            addresses = {target: one.addresses for target, one in targets.items()}
            found[index] = service_endpoints(name, answered.services, addresses)
            ttls.extend(one.ttl for one in (answered, *targets.values()))

        async with trio.open_nursery() as nursery:
            for index, config in enumerate(configs):
                if config.address.is_unix or _is_ip(config.address.host):
                    found[index] = [config]
                else:
                    nursery.start_soon(host, index, config)
            for index, name in enumerate(self.srv, len(configs)):
                nursery.start_soon(service, index, name)
        return once_each(one for some in found for one in some), min(ttls)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
