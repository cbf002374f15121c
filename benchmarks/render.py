"""Measures the HTML page of a full-size report: whole processes that render it, and Chromium that opens it.

    make benchmark            # or: python benchmarks/render.py [--record] [--rounds N] [--strict]

This process imports the standard library alone and stays small: a child's peak memory begins at its parent's.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median

from headers import HERE, MIB, Command, Run, Target, auditor, forged, in_turn, machine, middle

RESULTS = HERE / "results" / "render.md"
FINDINGS = 50_000


def reports(folder: Path) -> dict[str, Path]:
    """A sound full-size report without a finding, and one with 50,000 roots, each with a name of its own."""
    forged(folder / "v3")
    plain = folder / "no-finding.json"
    subprocess.run([auditor(), "audit", str(folder / "v3"), "--quiet", "--json", str(plain)], check=True)
    report = json.loads(plain.read_text("utf-8"))
    report["findings"] = []
    plain.write_text(json.dumps(report), "utf-8")
    report["findings"] = [_finding(number) for number in range(FINDINGS)]
    many = folder / "many-findings.json"
    many.write_text(json.dumps(report), "utf-8")
    return {"no finding": plain, f"{FINDINGS:,} findings": many}


def _finding(number: int) -> dict[str, object]:
    """A finding alike to no other in name, place or fingerprint."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    name = f"model.layers.{number % 62}.mlp.experts.{number % 256}.odd_{digest[:8]}.weight"
    shard = f"model-{number % 163 + 1:05}-of-000163.safetensors"
    return {
        "rule": "NAM102", "slug": "unexpected-tensor", "severity": "warning",
        "message": "no tensor of this name follows from the config",
        "location": {"file": shard, "tensor": name, "bytes": [number * 4096, number * 4096 + 4096]},
        "expected": None, "actual": "F8_E4M3", "count": 1, "affected": [name], "fingerprint": digest,
    }  # fmt: skip


def opened(pages: list[Path], rounds: int) -> dict[str, list[float]]:
    """Seconds that Chromium takes to open each page until all of it can be used, by the page's path."""
    words = [sys.executable, str(HERE / "open_page.py"), str(rounds), *map(str, pages)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds (default: 7)")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/render.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is missed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="auditor-benchmark-") as name:
        documents = reports(Path(name))
        commands = [
            Command(what, (auditor(), "report", str(path), "--quiet", "--html", str(path.with_suffix(".html"))))
            for what, path in documents.items()
        ]
        runs = in_turn(commands, options.rounds)
        pages = {what: path.with_suffix(".html") for what, path in documents.items()}
        sizes = {what: page.stat().st_size for what, page in pages.items()}
        seconds = opened(list(pages.values()), options.rounds)
        opening = {what: seconds[str(page)] for what, page in pages.items()}
    targets = _targets(runs, sizes, opening)
    lines = [
        "# The page of a full-size report, measured",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}; {machine()}; "
        + ", ".join(f"{each} {metadata.version(each)}" for each in ("checkpoint-auditor", "pydantic", "jinja2"))
        + ".",
        "",
        f"`auditor report x.json --html y.html` as whole processes, {options.rounds} rounds in turn with warm caches, "
        "on the report of a forged DeepSeek-V3 layout (91,991 tensors in 163 shards); then Chromium opening the page "
        "from disk until its filters can be used.",
        "",
        "| report | rendering, median | min to max | peak memory | page | opening, median | min to max |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(_row(what, runs[what], sizes[what], opening[what]) for what in pages),
        "",
        "| target | measured | bound | met |",
        "|---|---:|---:|---|",
        *(target.row() for target in targets),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.record:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, "utf-8")
    return 1 if options.strict and not all(target.met for target in targets) else 0


def _targets(runs: dict[str, list[Run]], sizes: dict[str, int], opening: dict[str, list[float]]) -> list[Target]:
    plain, many = runs
    return [
        Target(f"rendering, {plain}", middle(runs[plain]), 1.5, " s"),
        Target(f"peak memory, {plain}", max(run.peak for run in runs[plain]) / MIB, 300e6 / MIB, " MiB"),
        Target(f"rendering, {many}", middle(runs[many]), 4.0, " s"),
        Target(f"page, {many}", sizes[many] / 1e6, 5.0, " MB"),
        Target(f"opening, {many}", median(opening[many]), 2.0, " s"),
    ]


def _row(what: str, runs: list[Run], size: int, opening: list[float]) -> str:
    times = [run.seconds for run in runs]
    peak = max(run.peak for run in runs) / MIB
    return (
        f"| {what} | {median(times):.2f} s | {min(times):.2f} to {max(times):.2f} s | {peak:.0f} MiB "
        f"| {size / 1e6:.2f} MB | {median(opening):.2f} s | {min(opening):.2f} to {max(opening):.2f} s |"
    )


if __name__ == "__main__":
    sys.exit(main())
