"""Measures audits of content: kernels in RAM and whole processes, in turn with their peers, on forged data.

    make benchmark-content    # or: python benchmarks/content.py [--record] [--gigabytes N] [--rounds N] [--against DIR]

This process imports the standard library alone; whatever computes is a process of its own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from headers import HERE, PEERS, Command, auditor, in_turn, machine, measure, middle

PARTS = HERE / "parts"
RESULTS = HERE / "results" / "content.md"
MB = 1e6
GB = 1e9
COLD_ROUNDS = 3
SHORT_ROUNDS = 15  # of what takes a twentieth of a second
POLL_S = 0.002
Contenders = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Target:
    """A figure held against its bound, which it must reach (`least`) or must not pass."""

    what: str
    value: float
    bound: float
    unit: str = " ×"
    least: bool = True

    @property
    def met(self) -> bool:
        """Whether the figure is within its bound."""
        return self.value >= self.bound if self.least else self.value <= self.bound

    def row(self) -> str:
        """A row of a Markdown table."""
        sign, met = ("≥" if self.least else "≤"), ("yes" if self.met else "**no**")
        return f"| {self.what} | {self.value:,.2f}{self.unit} | {sign} {self.bound:g}{self.unit} | {met} |"


@dataclass(frozen=True)
class Forged:
    """A checkpoint that was written: its folder, tensors, bytes of tensors and shards."""

    folder: Path
    tensors: int
    bytes: int
    shards: int

    def __str__(self) -> str:
        return f"{self.bytes / GB:.2f} GB ({self.tensors} tensors, {self.shards} shards)"


class Figures:
    """Rows of the table of rates, and the targets."""

    def __init__(self) -> None:
        self.rows = ["| what | median | min to max | rate |", "|---|---:|---:|---:|"]
        self.targets: list[Target] = []

    def add(self, what: str, seconds: list[float], size: int) -> float:
        """Note what took so long for so many bytes; bytes per second by the median."""
        rate = size / median(seconds)
        span = f"{min(seconds):.3f} to {max(seconds):.3f} s"
        self.rows.append(f"| {what} | {median(seconds):.3f} s | {span} | {rate / GB:,.2f} GB/s |")
        print(self.rows[-1], file=sys.stderr)
        return rate


def forge(folder: Path, gigabytes: float, *words: str) -> Forged:
    """Write a checkpoint of about so many gigabytes."""
    command = [sys.executable, str(PARTS / "forge_content.py"), str(folder), str(gigabytes), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    facts = json.loads(done.stdout)
    return Forged(folder, facts["tensors"], facts["bytes"], facts["shards"])


def part(name: str, rounds: int, *words: str) -> Any:
    """What a part printed."""
    command = [sys.executable, str(PARTS / name), str(rounds), *words]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def audit(checkpoint: Forged, *words: str, device: str = "cpu", tree: Path | None = None) -> Command:
    """A whole audit at depth full, as a process that must pass; by the auditor whose source `tree` is, if one is."""
    name, program = " ".join(("audit --depth full", *words)), (auditor(),)
    if tree is not None:
        name, paths = f"earlier: {name}", ":".join(str(tree / each) for each in ("", "schemas", "reports"))
        program = ("/usr/bin/env", f"PYTHONPATH={paths}", sys.executable, "-P", "-m", "auditor")
    command = (*program, "audit", str(checkpoint.folder), "--depth", "full", "--device", device, "--quiet", *words)
    return Command(name, command)


def peer(name: str, checkpoint: Forged, *, tensors: bool = False) -> Command:
    """A peer as a process; it prints how many tensors or files it saw."""
    seen = checkpoint.tensors if tensors else checkpoint.shards
    return Command(name, (sys.executable, str(PEERS / f"{name}.py"), str(checkpoint.folder)), seen)


def seconds_of(command: Command, rounds: int, before: Callable[[], None] | None = None) -> list[float]:
    """Wall times of one process, each after `before`."""
    times = []
    for _ in range(rounds):
        if before is not None:
            before()
        times.append(measure(command).seconds)
    return times


def in_ram(figures: Figures, rounds: int) -> None:
    """Kernel and verdict against memory and torch."""
    found: Contenders = part("ram.py", max(rounds, SHORT_ROUNDS))
    names = {
        "read": "RAM read, two threads",
        "kernel": "kernel in RAM, two threads",
        "numpy": "numpy: maximum of `code & 0x7F`, two threads",
        "torch": "torch: maximum of `code & 0x7F`, two threads",
        "verdict": "round-trip verdict in RAM, two threads",
        "torch verdict": "torch: dequantise, requantise, compare, an expert's weight at a time, two threads",
        "torch verdict by strip": "torch: the same, 128 rows at a time, two threads",
    }
    rates = {name: figures.add(names[name], each["seconds"], each["bytes"]) for name, each in found.items()}
    figures.targets += [
        Target("kernel / RAM read", rates["kernel"] / rates["read"], 0.85),
        Target("round-trip verdict / torch", rates["verdict"] / rates["torch verdict"], 150),
    ]
    tuned = rates["verdict"] / rates["torch verdict by strip"]
    figures.rows.append(f"| round-trip verdict / torch by 128 rows, which suits this cache | {tuned:,.0f} × | | |")


def warm(figures: Figures, small: Forged, large: Forged, rounds: int, earlier: Path | None) -> None:
    """Whole processes on a warm page cache, all in turn, and once a round what memory gives.

    Before each run all files are read, as systems let go of pages that were not used for some seconds. `earlier` is the
    source of another version, which is to have been hardly faster.
    """
    bare, full = audit(large, "--no-digests"), audit(large)
    few = Command("few", audit(small, "--no-digests").words)
    before_few = Command("earlier few", audit(small, "--no-digests", tree=earlier).words)
    before_bare, before_full = audit(large, "--no-digests", tree=earlier), audit(large, tree=earlier)
    naive, hashing = peer("naive_scan", small, tensors=True), peer("hash_alone", large)
    reads: list[float] = []
    read_bytes = 0

    def before(command: Command) -> None:
        nonlocal read_bytes
        if command is few:
            found = part("ram.py", SHORT_ROUNDS // 3, "read")["read"]
            reads.extend(found["seconds"])
            read_bytes = found["bytes"]
        for folder in (small.folder, large.folder):
            subprocess.run(["cat", *folder.iterdir()], check=True, stdout=subprocess.DEVNULL)

    others = [] if earlier is None else [before_few, before_bare, before_full]
    runs = in_turn([few, bare, full, hashing, naive, *others], rounds, before)
    ram = figures.add("RAM read, two threads, between the rounds of what follows", reads, read_bytes)
    figures.add(f"{bare.name}, {small.bytes / GB:.1f} GB", _times(runs, few), small.bytes)
    whole = figures.add(f"{bare.name}, {large.bytes / GB:.1f} GB", _times(runs, bare), large.bytes)
    more = middle(runs[bare.name]) - middle(runs[few.name])
    steady = (large.bytes - small.bytes) / more
    figures.rows.append(f"| the same in steady state (difference) | {more:.3f} s | | {steady / GB:,.2f} GB/s |")
    slow = figures.add(f"safe_open → float32 → isnan, {small.bytes / GB:.1f} GB", _times(runs, naive), small.bytes)
    ours = figures.add(f"audit --depth full with digests, {large.bytes / GB:.1f} GB", _times(runs, full), large.bytes)
    alone = figures.add("hashlib SHA-256 alone, two threads", _times(runs, hashing), large.bytes)
    figures.targets += [
        Target("steady state / RAM read", steady / ram, 0.39),
        Target(f"whole process on {large.bytes / GB:.0f} GB / naive scan", whole / slow, 25),
        Target("with SHA-256 / hashing alone", ours / alone, 0.75),
    ]
    if earlier is not None:
        figures.add(f"{before_bare.name}, {large.bytes / GB:.1f} GB", _times(runs, before_bare), large.bytes)
        was = middle(runs[before_bare.name]) - middle(runs[before_few.name])
        figures.rows.append(
            f"| the same in steady state (difference) | {was:.3f} s | | {steady * more / was / GB:,.2f} GB/s |"
        )
        hashed = figures.add(before_full.name, _times(runs, before_full), large.bytes)
        figures.targets += [
            Target("steady state / earlier", was / more, 0.85),
            Target("with SHA-256 / earlier", ours / hashed, 0.95),
        ]


def cold(figures: Figures, checkpoint: Forged) -> None:
    """Whole processes after the page cache has let go of the files, in turn."""
    ours, plain = audit(checkpoint, "--no-digests"), peer("plain_read", checkpoint)
    times: dict[str, list[float]] = {ours.name: [], plain.name: []}
    for _ in range(COLD_ROUNDS):
        for command in (ours, plain):
            times[command.name] += seconds_of(command, 1, lambda: _let_go(checkpoint.folder))
    here = figures.add("cold: audit --depth full --no-digests", times[ours.name], checkpoint.bytes)
    there = figures.add("cold: plain sequential read", times[plain.name], checkpoint.bytes)
    figures.targets.append(Target("cold / plain sequential read", here / there, 0.9))


def memory(figures: Figures, checkpoint: Forged, what: str) -> None:
    """Peak anonymous memory of a whole audit."""
    peak = peak_anonymous(audit(checkpoint))
    figures.targets.append(Target(f"anonymous memory, {what}", peak / MB, 300, " MB", least=False))


def _times(runs: dict[str, list[Any]], command: Command) -> list[float]:
    return [run.seconds for run in runs[command.name]]


def _let_go(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def peak_anonymous(command: Command) -> int:
    """The most anonymous memory that a process and its children held together, looked at every two milliseconds.

    Pages that they share count for each of them.
    """
    peak = 0
    process = subprocess.Popen(command.words, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
        except OSError:
            break
        peak = max(peak, sum(map(_anonymous, [str(process.pid), *children])))
        time.sleep(POLL_S)
    if process.wait() not in (0, 1):  # the zeros of sparse tensors are findings
        raise RuntimeError(f"{command.name}: exit {process.returncode}")
    return peak


def _anonymous(process: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii").splitlines()
    except OSError:  # it has just ended
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def versions() -> str:
    """The versions that took part."""
    named = [f"{platform.python_implementation()} {platform.python_version()}"]
    distributions = ("checkpoint-auditor", "numpy", "numba", "xxhash", "torch", "safetensors")
    return ", ".join(named + [f"{name} {metadata.version(name)}" for name in distributions])


def concluded(
    figures: Figures, title: str, told: str, results: Path, options: argparse.Namespace, took_part: str
) -> int:
    """Print the page of a benchmark, and record it where the options ask for that; the exit code.

    It is 1 where they are strict and a target is missed. `took_part` are the versions.
    """
    lines = [
        title,
        "",
        f"{datetime.now(UTC):%Y-%m-%d}; {machine()}, {platform.system()}; {took_part}.",
        "",
        told,
        "",
        *figures.rows,
        "",
        "| target | measured | bound | met |",
        "|---|---:|---:|---|",
        *(target.row() for target in figures.targets),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.record:
        results.parent.mkdir(exist_ok=True)
        results.write_text(text, "utf-8")
    return 1 if options.strict and not all(target.met for target in figures.targets) else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=8, help="size of the larger checkpoint (default: 8)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default: 5)")
    parser.add_argument("--against", type=Path, metavar="DIR", help="the source of an earlier version, to compare with")
    parser.add_argument("--dir", type=Path, help="where to forge: a disk with room for 1.3 × that, and for cold reads")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/content.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is missed")
    options = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="auditor-benchmark-", dir=options.dir) as name:
        folder = Path(name)

        in_ram(figures, options.rounds)
        small, large = forge(folder / "small", options.gigabytes / 4), forge(folder / "large", options.gigabytes)
        warm(figures, small, large, options.rounds, options.against and options.against.resolve())
        memory(figures, large, f"{large.bytes / GB:.1f} GB")
        memory(figures, forge(folder / "sparse", 0, "--sparse"), "tensors of 1.85 GB")
        cold(figures, large)
    words = ["python benchmarks/content.py", f"--gigabytes {options.gigabytes:g}", f"--rounds {options.rounds}"]
    told = f"`{' '.join(words)}`; medians; forged checkpoints of {small} and {large}."
    return concluded(figures, "# Audits of content, measured", told, RESULTS, options, versions())


if __name__ == "__main__":
    sys.exit(main())
