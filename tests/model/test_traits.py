from __future__ import annotations

from xproxy.model.traits import API_VERSION, Sharing, Traits


def test_a_protocol_claims_nothing_it_does_not_say() -> None:
    traits = Traits(sharing=Sharing.SERIAL)
    assert traits.api == API_VERSION
    claims = (
        traits.half_close,
        traits.trailers,
        traits.interim,
        traits.oneway,
        traits.reverse,
        traits.server_first,
        traits.headless,
        traits.alpn,
        traits.family,
        traits.upstream_sharing,
    )
    assert not any(claims)
