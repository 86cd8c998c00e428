"""Health check by a web request, in whatever protocol of the web the endpoint speaks."""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from xproxy.codecs.api import CodecPlugin
from xproxy.config.schema import StringMatch
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, Target
from xproxy.model.traits import WEB_FAMILY
from xproxy.routing.match import Holds, text_test
from xproxy.upstream.health.api import PASSED, CheckFailed, Passed, Probe
from xproxy.upstream.health.watch import IMMEDIATE_FAIL

DEGRADED: Final = "x-envoy-degraded"
"""A header of an answer: the endpoint is to be asked only where others cannot take all."""
IDENTITY: Final = "x-envoy-upstream-healthchecked-cluster"
"""A header of an answer: which service it is that answers."""
_STATUSES: Final = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?")


def _codes(texts: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for text in texts:
        match = _STATUSES.fullmatch(text)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(
                f"expected a code such as 200, or a range such as 200-299, found {text!r}"
            )
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def _are_statuses(_check: object, _field: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    # Any: a field of any type
    _codes(value)


@attrs.frozen(kw_only=True)
class Http:
    """A web request. Any other code than those expected makes an endpoint unhealthy at once."""

    path: str = attrs.field(validator=attrs.validators.matches_re(r"/\S*"))
    """What is asked for, with its query."""
    host: str = ""
    """The authority. Default: the endpoint's ``hostname``, else the cluster's name."""
    method: str = "GET"
    """How."""
    headers: dict[str, str] = attrs.field(factory=dict)
    """Further fields."""
    codec: str = ""
    """What is spoken. Default: the cluster's codec if it is one of the web, else the oldest of them."""
    expected_statuses: tuple[str, ...] = attrs.field(default=("200",), validator=_are_statuses)
    """Codes, or ranges ``200-299``, that are good."""
    retriable_statuses: tuple[str, ...] = attrs.field(default=(), validator=_are_statuses)
    """Codes that count as failures towards ``unhealthy_threshold``."""
    service_name: StringMatch | None = None
    """What the answer's ``x-envoy-upstream-healthchecked-cluster`` must be: whether it is this service at all."""

    _expected: frozenset[int] = attrs.field(init=False, eq=False, repr=False)
    _retriable: frozenset[int] = attrs.field(init=False, eq=False, repr=False)
    _is_named: Holds | None = attrs.field(init=False, eq=False, repr=False, default=None)
    _head: RequestHead = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # Once, and not for each check: a cluster may make very many.
        expected, retriable = _codes(self.expected_statuses), _codes(self.retriable_statuses)
        object.__setattr__(self, "_expected", expected)
        object.__setattr__(self, "_retriable", retriable)
        if self.service_name is not None:
            object.__setattr__(self, "_is_named", text_test(self.service_name)[1])
        headers = Headers((("user-agent", "xproxy-health-check"), *self.headers.items()))
        head = RequestHead(
            service=self.host, method=self.method, headers=headers, extra=Target(path=self.path)
        )
        object.__setattr__(self, "_head", head)

    async def __call__(self, probe: Probe) -> Passed:
        """See HealthCheck."""
        conversation = await probe.converse(self._plugin(probe))
        head = self._head
        if not self.host:
            head = RequestHead(
                service=probe.hostname or probe.cluster,
                method=head.method,
                headers=head.headers,
                extra=head.extra,
            )
        answer = (await conversation.ask(head)).head
        code = answer.native_status or 0
        if code not in self._expected:
            raise CheckFailed(f"answered {code}", at_once=code not in self._retriable)
        if IMMEDIATE_FAIL in answer.headers:
            raise CheckFailed("it said so in its answer", at_once=True)
        if self._is_named is not None and not self._is_named(answer.headers.get(IDENTITY)):
            raise CheckFailed("another service answered (service_name)", at_once=True)
        return Passed(degraded=True) if DEGRADED in answer.headers else PASSED

    def _plugin(self, probe: Probe) -> CodecPlugin:
        spoken = probe.spoken
        if self.codec:
            return spoken.named(self.codec)
        if spoken.own is not None and spoken.own.traits.family == WEB_FAMILY:
            return spoken.own
        if spoken.ordinary is None:
            raise CheckFailed("no codec of the web is installed")
        return spoken.ordinary
