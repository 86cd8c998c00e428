"""The codec xs1 keeps the codec contract: one line."""

from xproxy_sample.codec import PLUGIN

from xproxy.testing import check_codec


def test_conformance() -> None:
    check_codec(PLUGIN)
