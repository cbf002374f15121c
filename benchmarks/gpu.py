"""Proves and measures the GPU path, step by step, within a time; started by gpu.sh: --out FOLDER --until SECONDS.

Each step is a process, or several, and leaves what it found; one that fails or has no time left is said to, and the
others go on. This process imports the standard library alone.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from content import GB, PARTS, Figures, Target, forge
from headers import HERE, auditor, machine

ROUNDS = 3
GIGABYTES = 6.0
_LEAST_S = 10  # left for a step to be begun

_NAMES = {
    "copy": "device copy (bytes moved)",
    "kernel": "kernel on the device",
    "pinned": "bare copy, pinned host to device",
    "pipeline": "pinned slabs through copy, kernel and back",
}


class Run:
    """The steps of one run, and what came of them."""

    def __init__(self, folder: Path, until: float) -> None:
        self.folder = folder
        self.until = until
        self.device = "none"
        self.versions = ""
        self.steps: dict[str, str] = {}
        self.figures = Figures()
        self.rates: dict[str, float] = {}

    def left(self) -> float:
        """Seconds that are left."""
        return self.until - time.time()

    def step(self, name: str, work: Callable[[], str]) -> None:
        """Do a step, or say why it is not done."""
        if self.left() < _LEAST_S:
            self.steps[name] = "not run: no time was left"
        else:
            try:
                self.steps[name] = work()
            except subprocess.TimeoutExpired:
                self.steps[name] = "not run to its end: no time was left"
            except (subprocess.CalledProcessError, OSError, RuntimeError, ValueError, KeyError) as error:
                said = (getattr(error, "stderr", None) or str(error)).strip() or repr(error)
                self.steps[name] = f"failed: {said.splitlines()[-1][:300]}"
        print(f"{name}: {self.steps[name]}", file=sys.stderr)

    def called(self, *words: str, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """A process within the time that is left; raises where its exit code is another."""
        done = subprocess.run(words, capture_output=True, text=True, timeout=max(1.0, self.left()))
        if done.returncode not in codes:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr or done.stdout)
        return done

    # --- steps ---

    def kernels(self) -> str:
        """Kernel, copies and pipeline on the device."""
        found = json.loads(self.called(sys.executable, str(PARTS / "gpu.py"), str(ROUNDS + 2)).stdout)
        if found is None:
            raise RuntimeError("there is no GPU")
        self.device, self.versions = found["device"], found["versions"]
        for name, each in found["contenders"].items():
            self.rates[name] = self.figures.add(_NAMES[name], each["seconds"], each["bytes"])
        self.figures.targets += [
            Target("kernel / device copy", self.rates["kernel"] / self.rates["copy"], 0.8),
            Target(
                "pinned slabs through the device / bare pinned copy", self.rates["pipeline"] / self.rates["pinned"], 0.8
            ),
        ]
        if not found["reproduced"]["equal"]:
            raise RuntimeError("blocks were reproduced otherwise than on the CPU")
        blocks, seconds = found["reproduced"]["blocks"], found["reproduced"]["seconds"]
        return f"measured; {blocks:,} blocks reproduced bit for bit as on the CPU, in {seconds:.3f} s"

    def tests(self) -> str:
        """The tests that need a GPU."""
        report = self.folder / "tests.xml"
        words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junit-xml={report}"]
        files = [f"tests/content/test_{name}.py" for name in ("cuda", "functional", "reproduce")]
        done = self.called(*words, *files, codes=(0, 1))
        suite = next(iter(ET.parse(report).getroot().iter("testsuite")))  # our own file
        counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
        if counts["failures"] + counts["errors"] or not passed:
            raise RuntimeError(done.stdout.strip().splitlines()[-1] if passed else "no test ran")
        return f"{passed} passed, {counts['skipped']} skipped"

    def audits(self) -> str:
        """Full audits on both devices, with and without digests, in turn: alike in all but times and device."""
        if self.device == "none":
            raise RuntimeError("the kernels have not run on a GPU")
        small, large = forge(self.folder / "small", GIGABYTES / 4), forge(self.folder / "large", GIGABYTES)
        times: dict[tuple[str, str], list[float]] = {}
        compared = 0
        for turn in range(ROUNDS):
            for checkpoint, options in ((small, ["--no-digests"]), (large, ["--no-digests"]), (large, [])):
                reports = []
                for device in ("cpu", "cuda"):
                    path = self.folder / f"{device}.json"
                    words = ["audit", str(checkpoint.folder), "--depth", "full", "--seed", "1", "--quiet", *options]
                    begun = time.perf_counter()
                    self.called(auditor(), *words, "--device", device, "--json", str(path), codes=(0, 1))
                    took = time.perf_counter() - begun
                    times.setdefault((device, " ".join([checkpoint.folder.name, *options])), []).append(took)
                    reports.append(_stable(json.loads(path.read_text("utf-8"))))
                if reports[0] != reports[1]:
                    names = [name for name in reports[0] if reports[0][name] != reports[1].get(name)]
                    raise RuntimeError(f"the reports differ in {', '.join(names)}")
                compared += 1
            if turn == 0:  # kernels were compiled
                times.clear()
        for (device, what), seconds in times.items():
            size = (small if what.startswith("small") else large).bytes
            self.figures.add(f"audit --depth full --device {device}, {what}", seconds, size)
        for device in ("cpu", "cuda"):
            more = median(times[device, "large --no-digests"]) - median(times[device, "small --no-digests"])
            steady = (large.bytes - small.bytes) / more
            self.figures.rows.append(
                f"| the same on {device} in steady state (difference) | | | {steady / GB:,.2f} GB/s |"
            )
            if device == "cuda" and "pinned" in self.rates:
                self.figures.targets.append(
                    Target("whole audits in steady state / bare pinned copy", steady / self.rates["pinned"], 0.8)
                )
        return f"{compared} pairs of reports, every probe alike"

    def values(self) -> str:
        """`diff --values` of a checkpoint with itself and with a damaged one."""
        for name, broken in (("sound", []), ("broken", ["--break", "nan-codes"])):
            self.called(auditor(), "forge", str(self.folder / name), *broken)
        sound, broken_one = str(self.folder / "sound"), str(self.folder / "broken")
        self.called(auditor(), "diff", sound, sound, "--values")
        self.called(auditor(), "diff", sound, broken_one, "--values", codes=(1,))
        return "the same is faithful, the damaged one is not"


def _stable(report: dict[str, Any]) -> dict[str, Any]:
    """A report without when, where and by what it was made."""
    report.pop("run")
    report.pop("source")
    (report.get("probes") or {}).pop("device", None)
    for each in (report.get("probes") or {}).get("functional", ()):  # products are added up in another order
        each.pop("device", None)
        each.pop("relative_error", None)
    return report


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="where gpu.json and gpu.md go")
    parser.add_argument("--dir", type=Path, required=True, help="room for 8 GB of forged data")
    parser.add_argument("--until", type=float, required=True, help="when to end, in seconds since the epoch")
    options = parser.parse_args()
    run = Run(options.dir, options.until)
    run.step("kernels", run.kernels)
    run.step("tests marked gpu", run.tests)
    run.step("full audits on GPU and CPU", run.audits)
    run.step("diff --values", run.values)
    whole = not any(said.startswith(("failed", "not run")) for said in run.steps.values())
    distributions = ("torch", "triton", "numba", "numpy", "xxhash")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in distributions)
    found = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "device": run.device,
        "machine": machine(),
        "python": platform.python_version(),
        "versions": versions,
        "cuda": run.versions,
        "command": "sh benchmarks/gpu.sh WHEELS OUT",
        "steps": run.steps,
        "targets": [asdict(target) | {"met": target.met} for target in run.figures.targets],
        "rows": run.figures.rows[2:],
        "whole": whole,
    }
    lines = [
        "# The GPU path, proven and measured",
        "",
        f"{found['date']}; {run.device}; {machine()}; CPython {platform.python_version()}, {versions}; {run.versions}.",
        "",
        f"`{found['command']}`; medians of {ROUNDS - 1} rounds and more; forged checkpoints, warm.",
        "",
        "| step | came to |",
        "|---|---|",
        *(f"| {name} | {said} |" for name, said in run.steps.items()),
        "",
        *run.figures.rows,
        "",
        "| target | measured | bound | met |",
        "|---|---:|---:|---|",
        *(target.row() for target in run.figures.targets),
    ]
    (options.out / "gpu.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    (options.out / "gpu.md").write_text("\n".join(lines) + "\n", "utf-8")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.exit(main())
