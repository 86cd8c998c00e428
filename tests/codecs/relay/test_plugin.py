"""The kit's rules on a link."""

from __future__ import annotations

from fuzz.targets.relay import NumberedPlugin
from xproxy.codecs.api import NO_HINT, VerdictKind
from xproxy.codecs.relay.plugin import PLUGIN
from xproxy.registry import CODECS, default_registry
from xproxy.testing import check_codec


def test_conformance() -> None:
    check_codec(NumberedPlugin())


def test_no_listener_ever_takes_a_connection_for_a_link() -> None:
    assert PLUGIN.detect(bytes(100), NO_HINT).kind is VerdictKind.MAYBE
    assert PLUGIN.name not in default_registry().names(CODECS)
