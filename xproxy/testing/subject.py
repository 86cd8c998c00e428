"""The codec under test: its plugin, what to say with it, and how a finding is reported."""

from __future__ import annotations

from typing import Final

import attrs

from xproxy.codecs.api import (
    NO_HINT,
    NO_SAMPLES,
    Codec,
    CodecPlugin,
    Samples,
    SupportsSamples,
    VerdictKind,
)
from xproxy.model.errors import LocalProtocolError
from xproxy.model.frames import Head, Violation
from xproxy.model.headers import NO_HEADERS, Headers
from xproxy.model.limits import DEFAULT_LIMITS, Limits
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role, Sharing, Traits
from xproxy.testing.received import received
from xproxy.testing.traffic import carried, greet

_SHOWN_BYTES: Final = 256


class Broken(Exception):
    """A rule does not hold; ``check_codec`` adds which one."""

    def __init__(self, detail: str, data: bytes | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.data = data
        """The input that shows it, as short as could be made."""


class NotConforming(AssertionError):
    """A codec breaks a rule: names the codec, the rule, what happened, and the input in hex."""

    def __init__(self, codec: str, rule: str, detail: str, data: bytes | None = None) -> None:
        text = f"codec {codec!r} breaks the rule {rule!r}: {detail}"
        if data is not None:
            more = f" … ({len(data)} bytes)" if len(data) > _SHOWN_BYTES else ""
            text += f"\n  input, hex: {data[:_SHOWN_BYTES].hex() or '(none)'}{more}"
        super().__init__(text)
        self.rule = rule
        self.data = data


_FIELDS: Final = Headers((("x-sample", "one"), ("x-empty", ""), ("x-other", "two words")))

_CANDIDATES: Final = (
    RequestHead(service="xproxy.Echo", method="say", headers=_FIELDS),
    RequestHead(
        service="echo.example:8080",
        method="POST",
        headers=_FIELDS,
        extra=Target(path="/say?n=1"),
    ),
)
"""A request of the RPC kind and one of the web kind: the first that a codec carries is used."""


@attrs.define(eq=False)
class Subject:
    """A plugin, and what was learnt about it by talking through it."""

    plugin: CodecPlugin
    samples: Samples = NO_SAMPLES
    """What a test hands in; the plugin's own are added."""
    request: RequestHead = attrs.field(init=False)
    """A request that this codec carries."""
    response: ResponseHead = attrs.field(init=False)
    """A response as a real server of this protocol gives it: with a native status."""

    def __attrs_post_init__(self) -> None:
        """Find a request that the codec carries, and a response. Raises Broken if there is none."""
        if isinstance(self.plugin, SupportsSamples):
            self.samples += self.plugin.samples()
        if self.traits.headless:
            self.request = RequestHead(service="", method="")
            self.response = ResponseHead(status=Status.OK)
            return
        self.request = self._find_request()
        self.response = self._find_response()

    @property
    def traits(self) -> Traits:
        return self.plugin.traits

    @property
    def sharing(self) -> Sharing:
        return self.traits.sharing

    @property
    def streams_bodies(self) -> bool:
        return self.sharing is not Sharing.MESSAGES and not self.traits.whole_bodies

    def open(self, role: Role, limits: Limits = DEFAULT_LIMITS) -> Codec:
        """Start a codec."""
        return self.plugin.open(role, limits)

    def ids(self, count: int) -> list[int]:
        """Return ids for ``count`` streams on one connection: odd and rising suits every protocol."""
        if self.sharing is Sharing.SERIAL:
            return [1] * count
        return list(range(1, 2 * count, 2))

    def _find_request(self) -> RequestHead:
        tried = []
        for candidate in (*self.samples.requests, *_CANDIDATES):
            for headers in (candidate.headers, NO_HEADERS):
                head = attrs.evolve(candidate, headers=headers)
                problem = self._problem_with(head)
                if problem is None:
                    return head
                tried.append(f"{head.method} to {head.service} {dict(headers)}: {problem}")
        raise Broken(
            "no request of the kit arrives as it was sent; give the plugin samples(), or hand in Samples(requests=…);"
            " tried\n  " + "\n  ".join(tried)
        )

    def _problem_with(self, head: RequestHead) -> str | None:
        client, server = self.open(Role.CLIENT), self.open(Role.SERVER)
        try:
            wire = greet(client, server)
            wire += client.send(Head(1, head, b"", end=True))
        except LocalProtocolError as exc:
            return f"send refuses it ({exc})"
        verdict = self.plugin.detect(wire, NO_HINT)
        if verdict.kind is VerdictKind.NO:
            return "detect says NO to it"
        frames = received(server, wire)
        heads = [f.message for f in frames if isinstance(f, Head)]
        if len(heads) != 1:
            crimes = [f.detail for f in frames if isinstance(f, Violation)]
            return f"the server gives {len(heads)} heads for it {crimes or ''}"
        got = heads[0]
        if not isinstance(got, RequestHead):
            return "the server takes it for a response"
        if (got.service, got.method) != (head.service, head.method):
            return f"it arrives as {got.method!r} to {got.service!r}"
        if not carried(head.headers, got.headers):
            return f"its fields arrive as {got.headers!r}"
        return None

    def _find_response(self) -> ResponseHead:
        client, server = self.open(Role.CLIENT), self.open(Role.SERVER)
        wire = greet(client, server)
        server.receive(wire + client.send(Head(1, self.request, b"", end=True)))
        sent = server.send(Head(1, ResponseHead(status=Status.OK), b"", end=True))
        for frame in client.receive(sent):
            if isinstance(frame, Head) and isinstance(frame.message, ResponseHead):
                if frame.message.native_status is None:
                    raise Broken("a response from the wire has native_status None", sent)
                # Without the fields: some tell the length of this very body.
                return attrs.evolve(frame.message, headers=NO_HEADERS)
        raise Broken("the client reads no response out of what the server sent for OK", sent)
