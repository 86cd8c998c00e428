"""What governs endpoints holds for each protocol alike, with its own client and its own upstreams on real sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import attrs
import pytest
import trio

from tests.health_checks.kit import REGISTRY, Serving
from tests.live import PATIENCE, Live, Upstream, running, upstream, web
from tests.transport.ends import polling
from xproxy.codecs.thrift.dialect import Protocol, Transport, dialect_of
from xproxy.codecs.thrift.message import ThriftExtra
from xproxy.model.address import Address
from xproxy.model.frames import Head, Reply
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.transport.dial import dial
from xproxy.upstream.endpoint import Unfit
from xproxy.upstream.health.api import Answer
from xproxy.upstream.health.conversation import Conversation

PROTOCOLS: Final = ("http1", "http2", "grpc", "bolt", "dubbo", "thrift")
THEADER: Final = dialect_of(Transport.HEADER, Protocol.STRICT)
EJECTING: Final = (
    "{consecutive_5xx: 2, always_eject_one_host: true, interval: 50ms, base_ejection_time: 1h}"
)


@attrs.define(eq=False)
class Client:
    """One connection to the proxy, in one protocol."""

    protocol: str
    talk: Conversation
    served: Counter[int]
    live: Live

    async def ask(self, **headers: str) -> tuple[int, Answer]:
        """Make a request. Return whose upstream served it, or -1, and the answer."""
        before = Counter(self.served)
        with trio.fail_after(PATIENCE):
            answer = await self.talk.ask(self._head(headers), self._data)
        (who,) = self.served - before or (-1,)
        return who, answer

    def _head(self, headers: dict[str, str]) -> RequestHead:
        fields = tuple(headers.items())
        if self.protocol == "grpc":
            fields = (*fields, ("content-type", "application/grpc"), ("te", "trailers"))
            return RequestHead(
                service="a", method="POST", headers=Headers(fields), extra=Target(path="/Cart/get")
            )
        if self.protocol in ("http1", "http2"):
            return RequestHead(
                service="a", method="GET", headers=Headers(fields), extra=Target(path="/")
            )
        # Thrift has fields in one of its transports only.
        extra = ThriftExtra(THEADER) if self.protocol == "thrift" else None
        return RequestHead(service="Cart", method="get", headers=Headers(fields), extra=extra)

    @property
    def _data(self) -> bytes:
        return {"grpc": bytes(5), "thrift": b"\0"}.get(self.protocol, b"")

    @property
    def ejected(self) -> list[bool]:
        return [bool(one.unfit & Unfit.EJECTED) for one in self.live.cluster().endpoints]


def codec_of(protocol: str) -> str:
    return "http2" if protocol == "grpc" else protocol


def serving(protocol: str, served: Counter[int], index: int, status: Status) -> Serving:
    """Answer every request with ``status``, and count it."""
    plugin = REGISTRY.codec(codec_of(protocol))
    answer = ResponseHead(status=status)
    if protocol == "grpc":
        said = "0" if status is Status.OK else "13"
        fields = (("content-type", "application/grpc"), ("grpc-status", said))
        answer = ResponseHead(status=Status.OK, headers=Headers(fields))

    async def serve(stream: trio.SocketStream) -> None:
        codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
        data: bytes | None = b""
        while data is not None:
            for frame in codec.receive(data):
                owed = b""
                if isinstance(frame, Reply):
                    owed = frame.data
                elif isinstance(frame, Head):
                    served[index] += 1
                    owed = codec.send(Head(frame.stream_id, answer, end=True))
                if owed:
                    await stream.send_all(owed)
            data = bytes(await stream.receive_some()) or None

    return serve


@asynccontextmanager
async def client(
    protocol: str,
    *statuses: Status,
    endpoints: tuple[str, ...] = (),
    policy: str = "",
    **fields: object,
) -> AsyncIterator[Client]:
    """Run an upstream of each status, a proxy before them, and a client of it."""
    served: Counter[int] = Counter()
    plugin = REGISTRY.codec(codec_of(protocol))
    async with AsyncExitStack() as stack:
        poller = await stack.enter_async_context(polling())
        ups: list[Upstream] = [await stack.enter_async_context(upstream()) for _ in statuses]
        text = web(*[up.port for up in ups], codec=plugin.name, **fields)  # type: ignore[arg-type]  # by name
        for up, extra in zip(ups, endpoints, strict=False):
            address = f"127.0.0.1:{up.port}"
            text = text.replace(address, f"{{address: '{address}', {extra}}}")
        if policy:
            text = text.replace("- cluster: web", f"- cluster: web\n      hash_policy: {policy}")
        live = await stack.enter_async_context(running(text))
        nursery = await stack.enter_async_context(trio.open_nursery())
        for index, (up, status) in enumerate(zip(ups, statuses, strict=True)):
            nursery.start_soon(up.serve, serving(protocol, served, index, status))
        stream = await dial(poller, Address("127.0.0.1", live.port()), PATIENCE)
        stack.callback(nursery.cancel_scope.cancel)
        stack.callback(stream.close)
        yield Client(protocol, Conversation(stream, plugin, DEFAULT_LIMITS), served, live)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_answers_with_faults_is_ejected(protocol: str) -> None:
    """consecutive_5xx, on the neutral status."""
    async with client(protocol, Status.OK, Status.INTERNAL, outlier_detection=EJECTING) as edge:
        assert sorted([(await edge.ask())[0] for _ in range(4)]) == [0, 0, 1, 1]
        assert edge.ejected == [False, True]
        assert [(await edge.ask())[0] for _ in range(4)] == [0] * 4


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_requests_with_a_header_in_common_keep_to_one_endpoint(protocol: str) -> None:
    three = [Status.OK] * 3
    async with client(
        protocol, *three, policy="[{header: tenant}]", load_balancer="ring_hash"
    ) as edge:
        seen: dict[str, int] = {}
        for number in range(40):
            tenant = f"tenant-{number % 20}"
            who, _ = await edge.ask(tenant=tenant)
            assert seen.setdefault(tenant, who) == who
        assert len(set(seen.values())) > 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_header_names_the_subset(protocol: str) -> None:
    """And where there is none, the request is refused as the protocol does it."""
    async with client(
        protocol,
        Status.OK,
        Status.OK,
        endpoints=("metadata: {stage: blue}", "metadata: {stage: green}"),
        balancing="{subsets: {selectors: [[stage]], headers: {stage: x-stage}}}",
    ) as edge:
        for stage, whose in (("blue", 0), ("green", 1), ("blue", 0), ("green", 1)):
            assert (await edge.ask(**{"x-stage": stage}))[0] == whose
        who, answer = await edge.ask(**{"x-stage": "red"})
        assert who == -1
        stats = edge.live.cluster().stats
        assert (stats.lb_subsets_selected, stats.lb_subsets_fallback) == (4, 1)
        assert stats.upstream_cx_none_healthy == 1
        if protocol == "grpc":
            assert dict(answer.head.headers.pairs)["grpc-status"] == "14"
        else:
            assert answer.head.status is not Status.OK


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_next_priority_serves_where_the_first_is_ejected(protocol: str) -> None:
    async with client(
        protocol,
        Status.INTERNAL,
        Status.OK,
        endpoints=("priority: 0", "priority: 1"),
        outlier_detection=EJECTING,
    ) as edge:
        assert [(await edge.ask())[0] for _ in range(5)] == [0, 0, 1, 1, 1]
