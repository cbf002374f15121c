"""Runs cases in processes of their own, under the ceiling that every audit keeps, and adds up what became of them."""

import json
import multiprocessing
import platform
import random
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

CASE_SECONDS = 60  # of processor time; a case that waits gets twice as much by the clock
MEMORY_BYTES = 1 << 30
CHUNK = 500
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
# What is damaged, each with its part of all cases in ten thousandths: the cheaper a case, the more of them.
TARGETS = {
    "headers": 4000, "indexes": 2500, "configs": 1800, "policies": 900, "reports": 100, "states": 200, "listings": 60,
    "filesets": 140, "checkpoints": 298, "bulk": 2,
}  # fmt: skip


class Hang(BaseException):
    """A case took too long. Not an Exception, so that nothing in the auditor can take it for a rule's own."""


class Outcome(Protocol):
    """Where a bench notes what it did and what came of it."""

    def kind(self, name: str) -> None: ...

    def verdict(self, name: str) -> None: ...

    def rules(self, ids: set[str]) -> None: ...


class Bench(Protocol):
    """One target: made once for a folder, then asked for case after case."""

    def case(self, rng: random.Random, tally: Outcome) -> str | None:
        """One case; what is wrong about the auditor's answer, or None."""


@dataclass
class Tally:
    """What became of many cases."""

    cases: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    memory: int = 0
    wrong: list[str] = field(default_factory=list)

    def kind(self, name: str) -> None:
        self.kinds[name] += 1

    def verdict(self, name: str) -> None:
        self.verdicts[name] += 1

    def rules(self, ids: set[str]) -> None:
        self.fired.update(ids)

    def add(self, other: "Tally") -> None:
        self.cases += other.cases
        self.verdicts += other.verdicts
        self.kinds += other.kinds
        self.fired += other.fired
        self.slowest = max(self.slowest, other.slowest)
        self.memory = max(self.memory, other.memory)
        self.wrong += other.wrong


@contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raise Hang in what takes longer."""

    def ring(*_: object) -> None:
        raise Hang(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def bench_of(target: str, folder: Path) -> Bench:
    """The bench of a target, its files in a folder of its own."""
    bench: Bench = import_module(f"tests.fuzz.benches.{target}").Bench(folder)
    return bench


def run_case(bench: Bench, seed: int, number: int, tally: Tally) -> None:
    """One case; what is wrong about it goes into the tally. A case is its seed and its number, nothing else."""
    begun = time.perf_counter()
    try:
        with alarm(CASE_SECONDS):
            wrong = bench.case(random.Random(f"{seed}:{number}"), tally)
    except Hang as error:
        wrong = f"hangs: {error}\n{traceback.format_exc(limit=-4)}"
    except Exception:
        wrong = f"crashes:\n{traceback.format_exc(limit=-6)}"
    tally.cases += 1
    tally.slowest = max(tally.slowest, (time.perf_counter() - begun, f"{seed}:{number}"))
    if wrong:
        tally.wrong.append(f"case {seed}:{number}: {wrong}")


def run_cases(target: str, seed: int, numbers: range) -> Tally:
    """Run cases in a folder of their own, in this process, under the ceiling of memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="auditor-fuzz-") as folder:
        bench = bench_of(target, Path(folder))
        for number in numbers:
            run_case(bench, seed, number, tally)
            if number == numbers.start:  # what is imported once may stay open
                before = _open_files()
        until = time.monotonic() + 2
        while _open_files() > before and time.monotonic() < until:  # a server of the bench's has an end of each
            time.sleep(0.05)
        if _open_files() > before:
            tally.wrong.append(f"cases {seed}:{numbers.start} to {numbers.stop}: descriptors stayed open")
    tally.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return tally


def _open_files() -> int:
    """How many descriptors this process holds."""
    return len(list(Path("/dev/fd").iterdir()))


def run_all(
    target: str, *, seed: int, numbers: range, jobs: int, progress: Callable[[Tally], None] | None = None
) -> Tally:
    """Run cases in `jobs` processes. A process that dies counts as a wrong chunk.

    The processes are spawned: a forked one would begin with the caller's memory, which may be over the ceiling.
    """
    whole = Tally()
    chunks = [numbers[begin : begin + CHUNK] for begin in range(0, len(numbers), CHUNK)]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run_cases, target, seed, chunk): chunk for chunk in chunks}
        for done in as_completed(running):
            try:
                whole.add(done.result())
            except Exception as error:
                chunk = running[done]
                whole.wrong.append(f"cases {seed}:{chunk.start} to {chunk.stop}: the process died: {error!r}")
            if progress is not None:
                progress(whole)
    return whole


def summary(target: str, tally: Tally, seconds: float, seed: int) -> str:
    """One line."""
    verdicts = ", ".join(f"{count:,} {name}" for name, count in tally.verdicts.most_common())
    return (
        f"{target}: {tally.cases:,} cases (seed {seed}) in {seconds:.0f} s: {verdicts}; "
        f"slowest case {tally.slowest[1]} with {tally.slowest[0] * 1000:.0f} ms; "
        f"{tally.memory >> 20} MiB; {len(tally.wrong)} wrong"
    )


# --- the record: runs by target and seed, which add up; a run that repeats cases takes the place of what it repeats ---


def record(target: str, tally: Tally, *, seconds: float, seed: int, numbers: range) -> None:
    """Add a run to the record and write the page again."""
    from auditor import __version__

    where = RESULTS / "fuzz.json"
    runs: list[dict[str, Any]] = json.loads(where.read_text("utf-8")) if where.exists() else []
    one = {
        "target": target,
        "seed": seed,
        "first": numbers.start,
        "cases": tally.cases,
        "seconds": round(seconds),
        "wrong": len(tally.wrong),
        "slowest_ms": round(tally.slowest[0] * 1000),
        "memory_mib": tally.memory >> 20,
        "verdicts": dict(tally.verdicts.most_common()),
        "kinds": dict(tally.kinds.most_common()),
        "rules": sorted(tally.fired),
        "auditor": __version__,
        "python": platform.python_version(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    runs = [each for each in runs if not _overlaps(each, one)]
    runs.append(one)
    runs.sort(key=lambda each: (list(TARGETS).index(each["target"]), each["seed"], each["first"]))
    where.write_text(json.dumps(runs, indent=1) + "\n", "utf-8")
    (RESULTS / "fuzz.md").write_text(page(runs), "utf-8")


def _overlaps(one: dict[str, Any], other: dict[str, Any]) -> bool:
    same = all(one[key] == other[key] for key in ("target", "seed"))
    return same and one["first"] < other["first"] + other["cases"] and other["first"] < one["first"] + one["cases"]


def page(runs: list[dict[str, Any]]) -> str:
    """The record for a reader."""
    rows, of_rules = [], set[str]()
    for target in TARGETS:
        own = [each for each in runs if each["target"] == target]
        if not own:
            continue
        verdicts = sum((Counter(each["verdicts"]) for each in own), Counter[str]())
        of_rules.update(*(each["rules"] for each in own))
        said = ", ".join(f"{count:,} {name}" for name, count in verdicts.most_common())
        seeds = ", ".join(sorted({str(each["seed"]) for each in own}))
        rows.append(
            f"| {target} | {sum(each['cases'] for each in own):,} | {seeds} | {said} | "
            f"{max(each['slowest_ms'] for each in own):,} ms | {max(each['memory_mib'] for each in own):,} MiB | "
            f"{sum(each['wrong'] for each in own):,} |"
        )
    total = sum(each["cases"] for each in runs)
    wrong = sum(each["wrong"] for each in runs)
    return f"""# Fuzzing

{total:,} cases, {wrong:,} wrong; {len(of_rules)} rules fired in whole audits. `fuzz.json` has each run.

Wrong would be: an exception, a rule that errors, more than {CASE_SECONDS} s of work or {MEMORY_BYTES >> 30} GiB of
memory, a descriptor left open, a report that cannot be written, a control character of a hostile name in an output,
or an answer that an independent reading contradicts, above all a pass. `tests/fuzz/benches` says of each target what
is damaged and what its answers are held against. Made by `make fuzz`; a case is its target, seed and number, and
`python -m tests.fuzz TARGET --seed S --case N` repeats one.

| target | cases | seeds | answers | slowest | memory | wrong |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}
"""
