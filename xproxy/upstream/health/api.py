"""What a health check is: the contract of the entry point group ``xproxy.health_checks``.

A check is an attrs class whose fields are its options, and whose instances are called with a ``Probe``: it asks the
endpoint something, and returns if the answer is good. Whatever it raises is a check that failed. It has no timeout of
its own, keeps nothing between two calls, and closes nothing: the probe does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import attrs

from xproxy.codecs.api import CodecPlugin
from xproxy.model.address import Address
from xproxy.model.frames import Trailers
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.transport.stream import ByteStream


class CheckFailed(Exception):
    """The endpoint is not fit.

    ``at_once``: it has said so itself, and the threshold does not matter.
    """

    def __init__(self, detail: str, *, at_once: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        """One line for the log and the admin interface; nothing of the peer's payload."""
        self.at_once = at_once


@attrs.frozen(kw_only=True)
class Passed:
    """The endpoint is fit."""

    degraded: bool = False
    """But it is to be asked only where others cannot take all."""


PASSED = Passed()


@attrs.frozen
class Answer:
    """What an endpoint answered to a request of a check."""

    head: ResponseHead
    data: bytes
    """The first ``MOST_ANSWER_BYTES`` of the body."""
    trailers: Trailers | None = None


class Conversing(Protocol):
    """A connection in some protocol, through its codec."""

    async def ask(self, head: RequestHead, data: bytes = b"") -> Answer:
        """Send a request, and return the answer. Raises CheckFailed where none can be had."""
        ...

    async def beat(self) -> None:
        """Ask for a sign of life, and wait for it. Raises CheckFailed where the protocol has none."""
        ...


@attrs.frozen
class Spoken:
    """What may be spoken to a cluster's endpoints."""

    named: Callable[[str], CodecPlugin]
    """Returns an installed codec. Raises PluginError."""
    own: CodecPlugin | None = None
    """The cluster's; None: it hangs on the request."""
    ordinary: CodecPlugin | None = None
    """What web servers speak of which nothing is said."""
    calls: Mapping[str, CodecPlugin] = attrs.field(factory=dict)
    """Those made for calls, by dialect."""


class Probe(Protocol):
    """One endpoint, as a check sees it."""

    @property
    def address(self) -> Address:
        """Where it is checked."""
        ...

    @property
    def hostname(self) -> str:
        """Its name; empty: it has none."""
        ...

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        ...

    @property
    def spoken(self) -> Spoken:
        """What may be spoken to it."""
        ...

    async def connect(self) -> ByteStream:
        """Return a connection, TLS and all: that of the check before if it is still good. Raises ConnectFailed."""
        ...

    async def converse(self, plugin: CodecPlugin) -> Conversing:
        """Return a connection in the protocol of ``plugin``, likewise. Raises ConnectFailed."""
        ...


class HealthCheck(Protocol):
    """An instance of a check."""

    def __call__(self, probe: Probe) -> Awaitable[Passed | None]:
        """Ask. None is ``PASSED``."""
        ...
