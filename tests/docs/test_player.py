"""The tests of pages would notice a page that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.docs.player import Wrong, completed, play
from tests.docs.shell import expected
from xproxy.registry import CODECS, default_registry

GOOD = """\
```sh
one=1
sleep 60 &
```
```sh
echo $one and a half
kill $!
```
```text output
1 and …
```
```sh fails
false
```
```yaml part
routes: {main: [{cluster: web}]}
```
```python file=x.py
X = 1
```
```python
import x
```
"""
BAD = {
    "a command that fails": "```sh\nfalse\ntrue\n```\n",
    "a command that does not": "```sh fails\ntrue\n```\n",
    "a configuration with a mistake": "```yaml\nlisteners: 7\n```\n",
    "a mistake that is none": "```yaml part broken\nroutes: {main: [{cluster: web}]}\n```\n",
    "a program that fails": "```python\nassert False\n```\n",
    "a language nobody knows": "```cobol\n```\n",
    "a word nobody knows": "```sh sometimes\n```\n",
    "set-up that nobody has tried": "```sh setup\ncurl x | sh\n```\n",
    "a make target that is not there": "```sh root\nmake coffee\n```\n",
}


def _play(text: str, folder: Path) -> None:
    registry = default_registry()
    if "http1" not in registry.names(CODECS):
        pytest.skip("xproxy is not installed")
    # Blocks are named by their place in the checkout.
    page = ROOT / "docs" / "never-written.md"
    path = folder / "page.md"
    path.write_text(text, "utf-8")
    found = [*blocks(path)]
    for block in found:
        object.__setattr__(block, "page", page)
    play(found, folder, registry)


@pytest.mark.slow
def test_a_good_page_passes(tmp_path: Path) -> None:
    _play(GOOD, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("what", BAD)
def test_a_bad_page_does_not(what: str, tmp_path: Path) -> None:
    with pytest.raises(Wrong):
        _play(BAD[what], tmp_path)


def test_output_may_leave_things_open() -> None:
    assert expected("a … d\n…\ne\n").search("x\na b c d  \nmore\nand more\ne\n")
    assert expected("a\n…\nb\n").search("a\nb\n")
    assert not expected("a\nb\n").search("a\nc\nb\n")


def test_a_part_is_completed() -> None:
    whole = completed({"routes": {"t": [{"cluster": {"a": 1, "b": 2}}]}})
    assert whole["listeners"] == [{"name": "edge", "address": "127.0.0.1:15001", "routes": "t"}]
    assert sorted(whole["clusters"]) == ["a", "b"]  # type: ignore[call-overload]  # a mapping
