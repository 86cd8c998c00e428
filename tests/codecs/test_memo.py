from __future__ import annotations

from xproxy.codecs.memo import IdentityMemo


def test_equal_is_not_the_same() -> None:
    memo: IdentityMemo[int] = IdentityMemo()
    one, other = [1], [1]
    assert memo.put(one, 7) == 7
    assert memo.get(one) == 7
    assert memo.get(other) is None


def test_a_full_memory_is_emptied() -> None:
    memo: IdentityMemo[int] = IdentityMemo(2)
    keys = [object() for _ in range(3)]
    for number, key in enumerate(keys):
        memo.put(key, number)
    assert len(memo) == 1
    assert memo.get(keys[2]) == 2
    assert memo.get(keys[0]) is None


def test_an_id_cannot_come_to_mean_another_object() -> None:
    memo: IdentityMemo[int] = IdentityMemo()
    for number in range(100):
        memo.put([number], number)  # nobody else holds the key
    fresh = [-1]
    assert memo.get(fresh) is None
