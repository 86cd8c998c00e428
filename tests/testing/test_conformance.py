"""``check_codec`` passes what is right; that it catches what is wrong is tested rule by rule, in ``rules/``."""

from __future__ import annotations

import pytest

from tests.testing.rules import test_bounds as bounds
from tests.testing.rules import test_exchange as exchange
from tests.testing.rules import test_plugin as plugin
from tests.testing.rules import test_reading as reading
from tests.testing.rules import test_snapshot as snapshot
from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.model.message import RequestHead
from xproxy.testing import Samples
from xproxy.testing.conformance import RULES, check_codec
from xproxy.testing.fakes.lines import LINES
from xproxy.testing.fakes.pieces import PIECES, PiecesPlugin
from xproxy.testing.subject import NotConforming


@pytest.mark.parametrize(
    "plugin", [LINES, PIECES, PiecesPlugin(window=1024), OPAQUE], ids=lambda p: p.name
)
def test_a_right_codec_passes(plugin: CodecPlugin) -> None:
    check_codec(plugin)


def test_samples_are_used() -> None:
    request = RequestHead(service="mine", method="own")
    check_codec(LINES, samples=Samples(requests=(request,), recorded=(b"~q 1 a b 2 -\nhi",)))


def test_a_recorded_stream_that_is_a_violation_is_reported() -> None:
    with pytest.raises(NotConforming, match="valid traffic is a violation") as caught:
        check_codec(LINES, samples=Samples(recorded=(b"~q 1 a b -2 -\nhi",)))
    assert caught.value.rule == "readings"
    assert b"~q 1 a b -2 -\nhi".hex() in str(caught.value)


def test_every_rule_but_one_has_a_codec_that_breaks_it() -> None:
    cases = (*bounds.CASES, *exchange.CASES, *plugin.CASES, *reading.CASES, *snapshot.CASES)
    # What reads the wrong side's bytes reads garbage: totality would have caught it as well.
    assert set(RULES) - {rule for _, rule, _ in cases} == {"wrong-side"}
