"""The numbers of a cluster's members agree with their marks, whatever changes them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.upstream.health.kit import endpoints_of
from xproxy.upstream.endpoint import Degraded, Endpoint, Unfit
from xproxy.upstream.health.marks import Marks
from xproxy.upstream.stats import ClusterStats

CHANGE = st.tuples(
    st.integers(0, 4),
    st.sampled_from([*Unfit, None]),
    st.sampled_from([*Degraded, None]),
    st.booleans(),
)


def counted(stats: ClusterStats) -> tuple[int, int, int, int]:
    return (
        stats.membership_total,
        stats.membership_healthy,
        stats.membership_degraded,
        stats.membership_excluded,
    )


@given(st.lists(CHANGE))
def test_counting_on_is_counting_anew(
    changes: Sequence[tuple[int, Unfit | None, Degraded | None, bool]],
) -> None:
    endpoints, stats, told, lost = endpoints_of(5), ClusterStats(), list[int](), list[Endpoint]()
    marks = Marks(stats, lambda: told.append(1))
    marks.recount(endpoints)
    marks.lost = lost.append
    assert counted(stats) == (5, 5, 0, 0)
    changed = 0
    for number, unfit, degraded, on in changes:
        before, losses = endpoints[number].unfit, len(lost)
        changed += marks.change(endpoints[number], unfit=unfit, degraded=degraded, on=on)
        assert len(told) == changed
        assert (len(lost) > losses) is bool(endpoints[number].unfit & ~before)
        again = ClusterStats()
        Marks(again, lambda: None).recount(endpoints)
        assert counted(again) == counted(stats)


def test_one_more_is_counted_as_it_is() -> None:
    (fit, ejected), stats = endpoints_of(2), ClusterStats()
    ejected.unfit = Unfit.EJECTED
    marks = Marks(stats, lambda: None)
    marks.add(fit)
    marks.add(ejected)
    assert counted(stats) == (2, 1, 0, 0)


def test_who_is_leaving_is_not_counted() -> None:
    (endpoint,), stats = endpoints_of(1), ClusterStats()
    endpoint.leaving = True
    marks = Marks(stats, lambda: None)
    marks.change(endpoint, unfit=Unfit.EJECTED, on=True)
    assert counted(stats) == (0, 0, 0, 0)
