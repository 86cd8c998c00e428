"""What is remembered of one endpoint."""

from __future__ import annotations

from xproxy.upstream.health.records import Bucket, CheckRecord, OutlierRecord


def test_a_bucket_is_taken_once() -> None:
    bucket = Bucket()
    bucket.total, bucket.succeeded = 3, 2
    assert bucket.take() == (3, 2)
    assert bucket.take() == (0, 0)


def test_a_record_is_quiet_when_time_changes_nothing_of_it() -> None:
    counting, ejected, answered = OutlierRecord(), OutlierRecord(), OutlierRecord()
    counting.consecutive_5xx = 4
    ejected.multiplier = 1
    answered.local.total = 1
    assert [one.quiet for one in (counting, ejected, answered)] == [True, False, False]


def test_calm_begins_all_counts_in_a_row_anew() -> None:
    record = OutlierRecord()
    record.consecutive_5xx = record.consecutive_gateway_failure = 4
    record.consecutive_local_origin_failure = 3
    record.multiplier = 2
    record.calm()
    assert not record.consecutive_5xx
    assert not record.consecutive_gateway_failure
    assert not record.consecutive_local_origin_failure
    assert record.multiplier == 2


def test_an_endpoint_is_pending_before_its_first_check() -> None:
    record = CheckRecord()
    assert record.pending
    assert not record.failed
