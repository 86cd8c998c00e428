"""The kit for plugin authors: public, and as stable as ``xproxy.api``."""

from xproxy.codecs.api import Samples
from xproxy.testing.conformance import RULES, check_codec
from xproxy.testing.proxy import End, ProxyPair, proxy_pair
from xproxy.testing.script import BROKEN, END, NOTHING, Endpoint, Party, ScriptFailed, Step, play
from xproxy.testing.subject import NotConforming

__all__ = [
    "BROKEN",
    "END",
    "NOTHING",
    "RULES",
    "End",
    "Endpoint",
    "NotConforming",
    "Party",
    "ProxyPair",
    "Samples",
    "ScriptFailed",
    "Step",
    "check_codec",
    "play",
    "proxy_pair",
]
