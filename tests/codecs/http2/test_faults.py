"""What faults carry."""

from __future__ import annotations

from xproxy.codecs.http2.faults import ConnectionFault, Malformed, StreamFault
from xproxy.codecs.http2.status import ErrorCode


def test_faults_say_what_and_with_which_code() -> None:
    for kind in (ConnectionFault, StreamFault):
        fault = kind(ErrorCode.CANCEL, "why")
        assert (fault.code, fault.detail, str(fault)) == (ErrorCode.CANCEL, "why", "why")
    assert Malformed("why").answer == 0
    assert Malformed("long", 431).answer == 431
