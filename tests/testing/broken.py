"""Plugins that are right but for one thing, and what is expected of ``check_codec`` for them."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from xproxy.codecs.api import CodecPlugin
from xproxy.model.frames import Frame
from xproxy.model.limits import Limits
from xproxy.model.traits import Role
from xproxy.testing.conformance import check_codec
from xproxy.testing.fakes.lines import LinesCodec, LinesPlugin
from xproxy.testing.fakes.pieces import PiecesCodec, PiecesPlugin
from xproxy.testing.subject import NotConforming

Case = tuple[CodecPlugin, str, str]
"""A plugin, the rule it breaks, and words of the message."""


class NoSnapshot:
    """Has all of a LinesCodec but its snapshot."""

    def __init__(self, role: Role, limits: Limits) -> None:
        self._codec = LinesCodec(role, limits)

    def receive(self, data: bytes | None) -> Sequence[Frame]:
        return self._codec.receive(data)

    def send(self, frame: Frame) -> bytes:
        return self._codec.send(frame)


@attrs.frozen(kw_only=True)
class Broken(LinesPlugin):
    """``lines`` with one of the codecs above."""

    codec: type[LinesCodec] | type[NoSnapshot] = LinesCodec

    def open(self, role: Role, limits: Limits) -> LinesCodec:
        return self.codec(role, limits)  # type: ignore[return-value]  # NoSnapshot is wrong on purpose


@attrs.frozen(kw_only=True)
class BrokenPieces(PiecesPlugin):
    codec: type[PiecesCodec] = PiecesCodec

    def open(self, role: Role, limits: Limits) -> PiecesCodec:
        return self.codec(role, limits, self.window)


def caught(plugin: CodecPlugin) -> NotConforming:
    """Return what ``check_codec`` says of a codec that is wrong."""
    with pytest.raises(NotConforming) as info:
        check_codec(plugin)
    return info.value


def check_case(case: Case) -> None:
    """Assert that the plugin is caught by the rule, and that the message says so."""
    plugin, rule, words = case
    finding = caught(plugin)
    assert finding.rule == rule, str(finding)
    assert words in str(finding)
    assert f"{plugin.name!r} breaks the rule {rule!r}" in str(finding)


def ids(cases: Sequence[Case]) -> list[str]:
    """Name the cases by their rules."""
    return [f"{rule}-{number}" for number, (_, rule, _) in enumerate(cases)]
