"""Measures how every stage and every output grows with what a checkpoint, a policy or a baseline holds.

    python benchmarks/growth.py [--record] [--scale FACTOR] [--only NAME…]

Each input is made in two or three sizes, the largest near the default limits, and audited in a process of its own: the
processor time of each stage and output, and the peak memory. The exponent is that of time = size^exponent; an input
with one above the bound is measured up to twice more, and the least time counts; what takes under 0.5 s is not fitted.
Names are synthetic; nothing is downloaded.
"""

import argparse
import gc
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from parts import inputs  # the path comes first

RESULTS = Path(__file__).resolve().parent / "results" / "growth.md"
BOUND = 1.15
LEAST = 0.5  # seconds that are fitted
MOST_WAIT = 600  # seconds for one input, all that is measured of it together
OUTPUTS = ("json", "html", "sarif", "junit", "markdown", "csv")


@dataclass(frozen=True)
class Shape:
    """One way to be large: `sizes` of what `build` writes into a folder, and the options of its audit."""

    what: str
    sizes: tuple[int, ...]
    build: Callable[[Path, int], dict[str, Any]]


TENSORS = (200_000, 590_000)  # the default limit is 600,000
RELEASES = (192_000, 575_000)  # of which the config implies a few thousand more

SHAPES = {
    "sound": Shape("tensors, sound", RELEASES, inputs.sound),
    "unexpected": Shape("unexpected tensors, numbered", (100_000, *TENSORS), inputs.unexpected),
    "scattered": Shape("unexpected tensors, a pattern each", TENSORS, inputs.scattered),
    "sparse": Shape("unexpected tensors, numbers that do not fold", TENSORS, inputs.sparse),
    "wide": Shape("unexpected tensors with names of 510 bytes", (50_000, 125_000), inputs.wide),
    "layers": Shape("unexpected tensors, a layer each", TENSORS, inputs.layers),
    "numbers": Shape("unexpected tensors with eight numbers", TENSORS, inputs.numbers),
    "misplaced": Shape("misplaced index entries", TENSORS, inputs.misplaced),
    "findings": Shape("misplaced index entries, a finding each", TENSORS, inputs.findings),
    "unindexed": Shape("tensors that the index omits", TENSORS, inputs.unindexed),
    "missing": Shape("tensors, half of the shards missing", RELEASES, inputs.missing),
    "unscaled": Shape("FP8 tensors without scales", TENSORS, inputs.unscaled),
    "shards": Shape("shards of fifty tensors", (3_000, 9_900), inputs.shards),
    "headerless": Shape("shards that are none, no index", (2_000, 10_000), inputs.headerless),
    "waivers": Shape("waivers, a tensor each; a policy has at most 512 KiB", (700, 3_500), inputs.waivers),
    "globs": Shape("tensors under 100 waivers with stars", (20_000, 100_000), inputs.globs),
    "known": Shape("findings, all in the baseline", (50_000, 300_000), inputs.known),
}

# --- one audit, in a process of its own ---

_STAGES = {
    "opening": ("read_config", "configure", "walk"),
    "run": ("expectations_of", "facts_of", "apply_rules", "trace", "policy_of", "_baseline", "_summaries"),
    "verdict.measure": ("Measure.judged",),
}


def child(folder: Path, *, policy: str | None = None, baseline: bool = False) -> None:
    """Audit a folder, write every output, read the report back, and print the seconds of each as JSON."""
    from auditor import audit
    from auditor.questions import diff, verify
    from auditor.reporting import summary
    from auditor.reporting.formats import FORMATS
    from auditor.reporting.saved import read_report

    gc.disable()  # as the command does in its own process
    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            begun = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.process_time() - begun

        return call

    if baseline:
        first = audit(str(folder))
        (folder / "baseline.json").write_text(first.model_dump_json())
        del first
    for module, names in _STAGES.items():
        for name in names:
            owner: Any = import_module(f"auditor.{module}")
            *classes, function = name.split(".")
            for each in classes:
                owner = getattr(owner, each)
            setattr(owner, function, timed(function.strip("_"), getattr(owner, function)))
    for name in ("layout", "cells", "coverage", "fingerprint"):
        setattr(summary, name, timed(name, getattr(summary, name)))
    whole = timed("audit, whole", audit)
    report = whole(
        str(folder),
        policy=folder / policy if policy else None,
        baseline=folder / "baseline.json" if baseline else None,
        fail_on="warning",
    )
    written = folder.parent / "report.json"
    for name, form in FORMATS.items():
        with suppress(ImportError):
            document = timed(name, form.render)(report)
            if name == "json":
                written.write_text(document)
            del document
    extent = {"findings": len(report.findings), "json": written.stat().st_size}
    complete = not report.left_out
    del report
    timed("report read back", read_report)(written)
    if complete:
        timed("diff", diff.compare)(str(written), str(written))
    timed("verify", verify.verify)(str(written), str(folder), digests=False)
    status = Path("/proc/self/status").read_text()  # what getrusage says begins with the peak of who started this
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    print(json.dumps({"seconds": seconds, "peak": peak, **extent}))


@dataclass(frozen=True)
class Measured:
    """What one audit took."""

    seconds: dict[str, float]
    peak: int
    findings: int
    json: int


def measured(shape: Shape, size: int, folder: Path) -> Measured:
    """Build an input and audit it."""
    where = folder / f"{shape.build.__name__}-{size}"
    options = shape.build(where / "checkpoint", size)
    command = [sys.executable, __file__, "--child", str(where / "checkpoint"), json.dumps(options)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=MOST_WAIT)
    for each in sorted(where.rglob("*"), reverse=True):
        each.unlink() if each.is_file() else each.rmdir()
    return Measured(**json.loads(done.stdout))


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Of the growth over the sizes: the slope of the line through the logarithms."""
    across, up = [math.log(size) for size in sizes], [math.log(value) for value in values]
    middle, height = sum(across) / len(across), sum(up) / len(up)
    steps = [each - middle for each in across]
    return sum(step * (each - height) for step, each in zip(steps, up, strict=True)) / sum(step**2 for step in steps)


def lesser(one: Measured, other: Measured) -> Measured:
    """The less of each: whatever else a machine does only adds to what an audit takes."""
    seconds = {stage: min(took, other.seconds.get(stage, took)) for stage, took in one.seconds.items()}
    return Measured(seconds, min(one.peak, other.peak), one.findings, one.json)


def rows(name: str, shape: Shape, runs: Sequence[Measured]) -> Iterator[str]:
    """A table's rows: each stage that takes a while at the largest size, with its exponent."""
    for stage, most in runs[-1].seconds.items():
        seconds = [run.seconds.get(stage, 0.0) for run in runs]
        if most >= LEAST and min(seconds) > 0:
            fitted = exponent(shape.sizes, seconds)
            mark = "" if fitted <= BOUND else " **above**"
            yield f"| {name} | {stage} | {', '.join(f'{each:.2f}' for each in seconds)} s | {fitted:.2f}{mark} |"
    peaks = [run.peak for run in runs]
    shown = ", ".join(f"{peak / 1e6:,.0f}" for peak in peaks)
    yield f"| {name} | peak memory | {shown} MB | {exponent(shape.sizes, peaks):.2f} |"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", choices=SHAPES, default=list(SHAPES), help="these inputs alone")
    parser.add_argument("--scale", type=float, default=1.0, help="of each size this part alone")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/growth.md")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Path(options.child[0]), **json.loads(options.child[1]))
        return 0
    lines = ["| input | stage or output | at each size | exponent |", "|---|---|---:|---:|"]
    print(*lines, sep="\n", flush=True)
    ceiling = []
    for name in options.only:
        shape = SHAPES[name]
        sizes = tuple(round(size * options.scale) for size in shape.sizes)
        shape = Shape(shape.what, sizes, shape.build)
        with tempfile.TemporaryDirectory(prefix="auditor-growth-") as folder:
            try:
                runs = [measured(shape, size, Path(folder)) for size in shape.sizes]
                for _ in range(2):
                    if any("above" in row for row in rows(name, shape, runs)):
                        again = [measured(shape, size, Path(folder)) for size in shape.sizes]
                        runs = [lesser(one, other) for one, other in zip(runs, again, strict=True)]
            except subprocess.SubprocessError as error:
                lines.append(f"| {name} | {type(error).__name__} | | **above** |")
                print(lines[-1], flush=True)
                continue
        found, large = list(rows(name, shape, runs)), runs[-1]
        print(*found, sep="\n", flush=True)
        lines += found
        took = sum(large.seconds.get(each, 0.0) for each in ("audit, whole", *OUTPUTS))
        ceiling.append(
            f"| {name} | {shape.what} | {shape.sizes[-1]:,} | {large.findings:,} | {large.json / 1e6:,.1f} MB "
            f"| {took:.1f} s | {large.peak / 1e6:,.0f} MB |"
        )
    table = [
        "| input | what | size | findings | report | audit and outputs | peak memory |",
        "|---|---|---:|---:|---:|---:|---:|",
        *ceiling,
    ]
    print("", *table, sep="\n")
    if options.record:
        RESULTS.write_text(_record(table, lines), "utf-8")
    return 1 if any("**above**" in line for line in lines) else 0


def _record(table: list[str], lines: list[str]) -> str:
    from headers import machine

    stages = f"Stages and outputs that take {LEAST} s or more at the largest size:"
    parts = (
        "# Growth, measured",
        f"{datetime.now(UTC):%Y-%m-%d}; {machine()}. No exponent may be above {BOUND}.",
        "The largest size of each input, with every output; peak memory includes reading the report back and diff:",
        "\n".join(table),
        stages,
        "\n".join(lines),
    )
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
