from __future__ import annotations

import pytest

from xproxy.model.status import SERVER_FAULTS, Status


def test_values_are_the_canonical_codes_without_a_gap() -> None:
    assert [status.value for status in Status] == list(range(17))


@pytest.mark.parametrize("status", list(Status))
def test_a_label_names_its_status_in_every_spelling(status: Status) -> None:
    for text in (status.label, status.name, status.label.upper(), status.name.lower()):
        assert Status.from_label(text) is status
    with pytest.raises(KeyError):
        Status.from_label(status.label + "x")


def test_callers_own_mistakes_do_not_count_against_an_endpoint() -> None:
    assert Status.INVALID_ARGUMENT not in SERVER_FAULTS
    assert Status.OK not in SERVER_FAULTS
    assert Status.UNAVAILABLE in SERVER_FAULTS


def test_statuses_count_as_dictionary_keys() -> None:
    counts = {status: status.value for status in Status}
    assert counts[Status.NOT_FOUND] == 5
