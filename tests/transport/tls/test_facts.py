from __future__ import annotations

import attrs
import pytest

from xproxy.transport.tls.facts import TlsFacts


def test_facts_do_not_change() -> None:
    facts = TlsFacts(sni="edge.test", version="TLSv1.3")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        facts.sni = "other.test"  # type: ignore[misc]  # that is the point
