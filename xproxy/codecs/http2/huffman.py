"""Huffman's code of header blocks (RFC 7541 §5.2, Appendix B), read a byte at a time.

``hpack`` has it as a machine that takes four bits a step. Two steps of each of its states are put together here once,
when the module is imported: a step a byte, without questions, is a third of the work, and strings that nobody has
sent before are most of what reading a header block costs.
"""

from __future__ import annotations

from typing import Any, Final

from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
)

_NIBBLES: Final = 16
_END: Final = 256
"""Where a row says whether a string may end in its state: what is left over is padding of fewer than eight ones."""

_Row = list[Any]
"""For each byte, the next state's row and the text that came out; at ``_END`` a bool."""


def _rows() -> _Row:
    # Returns the row of the state at the start of a string.
    rows: list[_Row] = [[] for _ in range(len(HUFFMAN_TABLE) // _NIBBLES)]
    failed: _Row = []
    failed += [(failed, "")] * _END + [False]
    shared: dict[tuple[int, str], tuple[_Row, str]] = {}
    may_end = {state for state, flags, _ in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE}
    for number, row in enumerate(rows):
        first_steps = HUFFMAN_TABLE[number * _NIBBLES : (number + 1) * _NIBBLES]
        for state, flags, symbol in first_steps:
            if flags & HUFFMAN_FAIL:
                row += [(failed, "")] * _NIBBLES
                continue
            text = chr(symbol) if flags & HUFFMAN_EMIT_SYMBOL else ""
            for after, more, last in HUFFMAN_TABLE[state * _NIBBLES : (state + 1) * _NIBBLES]:
                if more & HUFFMAN_FAIL:
                    row.append((failed, ""))
                    continue
                key = (after, text + chr(last) if more & HUFFMAN_EMIT_SYMBOL else text)
                step = shared.get(key)
                if step is None:
                    step = shared[key] = (rows[after], key[1])
                row.append(step)
        row.append(number in may_end)
    return rows[0]


_START: Final = _rows()


def decode(data: bytes) -> str:
    """Return the text of a string literal, as Latin-1.

    Raises:
        ValueError: malformed: the end-of-string symbol, or padding that is not fewer than eight ones.

    """
    if not data:
        return ""
    row, text = _START, ""
    for byte in data:
        row, piece = row[byte]
        text += piece
    if not row[_END]:
        raise ValueError("malformed Huffman code")
    return text
