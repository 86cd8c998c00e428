"""What is allowed but hardly meant; more of it is in test_load.py, test_never.py and test_tls_checks.py."""

from __future__ import annotations

import pytest

from xproxy.config.load import load_text, simple
from xproxy.config.oddities import oddities
from xproxy.registry import Registry


def test_a_file_with_no_oddity() -> None:
    assert list(oddities(simple("127.0.0.1:1", ["127.0.0.1:2"]))) == []


@pytest.mark.parametrize(
    ("admin", "odd"),
    [
        ("127.0.0.1:1", 0),
        ("[::1]:1", 0),
        ("unix:/x", 0),
        ("localhost:1", 0),
        ("10.0.0.1:1", 1),
        ("admin.example:1", 1),
    ],
)
def test_admin_in_the_open(admin: str, odd: int, registry: Registry) -> None:
    text = f"""\
admin: {{address: "{admin}"}}
listeners: [{{name: a, address: "h:1", fallback: {{cluster: c}}}}]
clusters: {{c: {{endpoints: ["h:1"]}}}}
"""
    assert len(list(oddities(load_text(text, "f", registry)))) == odd
