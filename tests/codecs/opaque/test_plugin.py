"""The plugin opaque keeps the codec contract, and is never chosen by detection."""

from __future__ import annotations

from xproxy.codecs.api import MAYBE, NO_HINT
from xproxy.codecs.opaque.plugin import PLUGIN
from xproxy.testing import check_codec


def test_conformance() -> None:
    check_codec(PLUGIN)


def test_traits() -> None:
    traits = PLUGIN.traits
    assert (traits.headless, traits.half_close, traits.server_first) == (True, True, True)
    assert PLUGIN.detect(b"anything", NO_HINT) is MAYBE
