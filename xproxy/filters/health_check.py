"""Health check: answer those who ask whether this proxy, and what is behind it, can take requests.

(idea: envoy:source/extensions/filters/http/health_check/health_check.cc)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import trio
from attrs.validators import ge

from xproxy.config.schema import StringMatch
from xproxy.model.headers import Headers
from xproxy.model.limits import Duration
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.routing.match import text_test
from xproxy.stream.exchange import Handler, Request, Response, local_response
from xproxy.stream.lifetime import Members

IMMEDIATE_FAIL: Final = "x-envoy-immediate-health-check-fail"
"""In every answer while the listener drains: whoever checks our health need not ask again."""
IDENTITY: Final = "x-envoy-upstream-healthchecked-cluster"
DEGRADED: Final = "x-envoy-degraded"


@attrs.define
class _Cached:
    """The last answer of the upstream to a health check."""

    until: float = 0.0
    status: Status = Status.OK
    degraded: bool = False


def _are_percentages(
    _filter: object, _field: attrs.Attribute[Any], value: Mapping[str, float]
) -> None:  # Any: a field of any type
    for name, percent in value.items():
        if not 0 <= percent <= 100:
            raise ValueError(f"{name}: must be 0 … 100 percent, found {percent:g}")


@attrs.frozen(kw_only=True)
class HealthCheck:
    """Answer requests that are health checks; every other request passes.

    They get OK, or ``unavailable`` (503) while the listener drains, and where a cluster has too few healthy
    endpoints. All that is given of ``path``, ``headers``, ``service`` and ``method`` must match.
    """

    path: StringMatch | None = None
    """The path without query, of a web request."""
    headers: dict[str, StringMatch] = attrs.field(factory=dict)
    """By field name."""
    service: StringMatch | None = None
    """The service that is called, or the authority."""
    method: StringMatch | None = None
    """What is called, or the method."""
    pass_through: bool = False
    """Let the upstream answer, except while the listener drains."""
    cache_time: Duration = attrs.field(default=Duration(0), validator=ge(Duration(0)))
    """With ``pass_through``: give its answer to all who ask within so long."""
    min_healthy_percentages: dict[str, float] = attrs.field(
        factory=dict, validator=_are_percentages
    )
    """By cluster: so many percent of its endpoints must be healthy or degraded. Not with ``pass_through``."""
    service_name: str = ""
    """Said in ``x-envoy-upstream-healthchecked-cluster``, so that who asks can tell whom it has reached."""

    _tests: tuple[Callable[[RequestHead], bool], ...] = attrs.field(
        init=False, eq=False, repr=False
    )
    _clusters: dict[str, Members] = attrs.field(init=False, eq=False, repr=False, factory=dict)
    _cached: _Cached = attrs.field(init=False, eq=False, repr=False, factory=_Cached)

    def __attrs_post_init__(self) -> None:
        if not (self.path or self.headers or self.service or self.method):
            raise ValueError("needs path, headers, service or method: what is a health check")
        if self.pass_through and self.min_healthy_percentages:
            raise ValueError("min_healthy_percentages are for answers made here, not pass_through")
        if self.cache_time and not self.pass_through:
            raise ValueError("cache_time is for answers of the upstream: it needs pass_through")
        object.__setattr__(self, "_tests", tuple(self._make_tests()))

    def _make_tests(self) -> list[Callable[[RequestHead], bool]]:
        tests: list[Callable[[RequestHead], bool]] = []
        if self.path is not None:
            holds = text_test(self.path)[1]
            tests.append(lambda head, holds=holds: holds(_path_of(head)))  # type: ignore[misc]  # bound early
        for name, wanted in self.headers.items():
            of = text_test(wanted)[1]
            tests.append(lambda head, of=of, name=name: of(head.headers.get(name)))  # type: ignore[misc]  # as above
        if self.service is not None:
            service = text_test(self.service)[1]
            tests.append(lambda head: service(_call_of(head)[0]))
        if self.method is not None:
            method = text_test(self.method)[1]
            tests.append(lambda head: method(_call_of(head)[1]))
        return tests

    def see_clusters(self, clusters: Mapping[str, Members]) -> None:
        """See SupportsClusters."""
        self._clusters.clear()
        for name in self.min_healthy_percentages:
            if name in clusters:
                self._clusters[name] = clusters[name]

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """See Filter."""
        downstream = request.connection.downstream
        draining = downstream is not None and downstream.draining
        if not all(test(request.head) for test in self._tests):
            response = await call_next(request)
            return _saying(response, ((IMMEDIATE_FAIL, "true"),)) if draining else response
        if draining:
            return self._answer(request, Status.UNAVAILABLE, ((IMMEDIATE_FAIL, "true"),))
        if not self.pass_through:
            return self._answer(request, self._judge(), ())
        cached, now = self._cached, trio.current_time()
        if now < cached.until:
            return self._answer(
                request, cached.status, ((DEGRADED, "true"),) if cached.degraded else ()
            )
        response = await call_next(request)
        if self.cache_time:
            cached.status = response.head.status
            cached.degraded = DEGRADED in response.head.headers
            cached.until = trio.current_time() + self.cache_time
        return _saying(response, self._identity)

    @property
    def _identity(self) -> tuple[tuple[str, str], ...]:
        return ((IDENTITY, self.service_name),) if self.service_name else ()

    def _answer(
        self, request: Request, status: Status, fields: tuple[tuple[str, str], ...]
    ) -> Response:
        request.record.local = True
        request.record.detail = "health_check"
        return local_response(
            ResponseHead(status=status, headers=Headers((*self._identity, *fields)))
        )

    def _judge(self) -> Status:
        for name, percent in self.min_healthy_percentages.items():
            cluster = self._clusters.get(name)
            total, usable = (0, 0) if cluster is None else cluster.members()
            if (cluster is None or not total) and percent:
                return Status.UNAVAILABLE
            if 100 * usable < percent * total:
                return Status.UNAVAILABLE
        return Status.OK


def _path_of(head: RequestHead) -> str | None:
    extra = head.extra
    return extra.match_path if isinstance(extra, Target) else None


def _call_of(head: RequestHead) -> tuple[str, str]:
    rpc = head.rpc
    return (head.service, head.method) if rpc is None else (rpc.service, rpc.method)


def _saying(response: Response, fields: tuple[tuple[str, str], ...]) -> Response:
    if fields:
        head, names = response.head, {name for name, _ in fields}
        others = (field for field in head.headers.pairs if field[0].lower() not in names)
        response.head = attrs.evolve(head, headers=Headers((*others, *fields)))
        response.origin = None
    return response
