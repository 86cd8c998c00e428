"""Fuzz one target: ``python fuzz/run.py NAME [--seconds S | --runs N | --deterministic N]``.

NAME is any installed codec, ``carried``, ``config``, ``detect``, ``states`` or ``tls``. With atheris
(``pip install xproxy[fuzz]``) inputs are found by coverage; without it, or with ``--deterministic``, a loop of our
own changes the corpus, the same way in every run. A finding is printed as hex, written to ``fuzz/crashes/``, and ends
the run with exit code 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import random
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Run as a script, the first place on the path is fuzz/ itself.
sys.path.insert(0, str(HERE.parent))

from fuzz.targets import Target  # noqa: E402

_LONGEST_INPUT = 4096
_OTHERS = (
    "carried",
    "channel",
    "config",
    "detect",
    "dns",
    "hash_policy",
    "relay",
    "states",
    "tls",
)
"""Targets that are no codecs."""


def make_target(name: str) -> Target:
    """Return the target called ``name``. Raises LookupError with what there is."""
    registry = importlib.import_module("xproxy.registry").default_registry()
    codecs = registry.names("xproxy.codecs")
    made: Target
    if name in _OTHERS:
        made = importlib.import_module(f"fuzz.targets.{name}").target(registry)
    elif name in codecs:
        # A codec may have a target of its own.
        own = importlib.util.find_spec(f"fuzz.targets.{name}") is not None
        module = f"fuzz.targets.{name}" if own else "fuzz.targets.codec"
        made = importlib.import_module(module).target(registry.codec(name))
    else:
        names = ", ".join([*codecs, *_OTHERS])
        raise LookupError(f"no target {name!r}; there are: {names}")
    return made


def corpus(target: Target) -> list[bytes]:
    """Return the first inputs: those of the target and the files of its corpus, in a fixed order."""
    folder = HERE / "corpus" / target.name
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [seed.data for seed in target.seeds()] + [file.read_bytes() for file in files]


def inputs(target: Target, seed: int = 0) -> Iterator[bytes]:
    """Give inputs without end: the corpus first, then changes of it."""
    mutate = importlib.import_module("xproxy.testing.rules.reading").mutate
    chance = random.Random(seed)
    known = corpus(target)
    yield from known
    while True:
        data = chance.choice(known)
        if chance.random() < 0.2:
            other = chance.choice(known)
            data = (
                data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]
            )
        for _ in range(chance.choice((1, 1, 2, 4))):
            data = target.mutate(data, chance, mutate)
        yield data[:_LONGEST_INPUT]


def report(target: Target, data: bytes, exc: BaseException, folder: Path) -> None:
    """Print a finding and keep its input."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target.name}-{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.write_bytes(data)
    traceback.print_exception(exc)
    print(
        f"{target.name}: {type(exc).__name__}: {exc}\n  input, hex: {data.hex()}\n  kept in {path}"
    )


def run_loop(
    target: Target,
    *,
    runs: int | None,
    seconds: float | None,
    crashes: Path = HERE / "crashes",
) -> int:
    """Run the built-in loop; return the exit code."""
    end = None if seconds is None else time.monotonic() + seconds
    count = 0
    for data in inputs(target):
        if (runs is not None and count >= runs) or (end is not None and time.monotonic() >= end):
            break
        count += 1
        try:
            target.check(data)
        except Exception as exc:  # whatever comes out is the finding
            report(target, data, exc, crashes)
            return 1
    print(f"{target.name}: {count} inputs without finding")
    return 0


def run_atheris(name: str, *, runs: int | None, seconds: float | None) -> int:
    """Run under atheris, which ends the process by itself. The corpus it finds is kept in ``fuzz/work``."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["xproxy"]):
        target = make_target(name)
    work = HERE / "work" / name
    work.mkdir(parents=True, exist_ok=True)
    for data in corpus(target):
        (work / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def one_input(data: bytes) -> None:
        try:
            target.check(data)
        except Exception as exc:
            report(target, data, exc, HERE / "crashes")
            raise

    (HERE / "crashes").mkdir(exist_ok=True)
    flags = [f"-max_len={_LONGEST_INPUT}", f"-artifact_prefix={HERE / 'crashes'}/{name}-"]
    if runs is not None:
        flags.append(f"-runs={runs}")
    if seconds is not None:
        flags.append(f"-max_total_time={max(1, int(seconds))}")

    def custom_mutator(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        changed = target.mutate(data, chance, lambda part, _: bytes(atheris.Mutate(part, most)))
        return changed[:most]

    atheris.Setup([sys.argv[0], *flags, str(work)], one_input, custom_mutator=custom_mutator)
    atheris.Fuzz()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", help="an installed codec, or detect, or config")
    parser.add_argument("--seconds", type=float, help="stop after so long (default 60)")
    parser.add_argument("--runs", type=int, help="stop after so many inputs")
    parser.add_argument(
        "--deterministic",
        type=int,
        metavar="N",
        help="N inputs of the built-in loop, always the same",
    )
    options = parser.parse_args(argv)
    seconds: float | None = options.seconds
    if seconds is None and options.runs is None:
        seconds = 60.0
    try:
        if options.deterministic is not None:
            return run_loop(make_target(options.name), runs=options.deterministic, seconds=None)
        if importlib.util.find_spec("atheris") is not None:
            return run_atheris(options.name, runs=options.runs, seconds=seconds)
        print("atheris is not installed: the built-in loop runs", file=sys.stderr)
        return run_loop(make_target(options.name), runs=options.runs, seconds=seconds)
    except LookupError as exc:
        print(exc.args[0], file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
