"""The fuzz as a command.

python -m tests.fuzz headers --cases 100000 --seed 3 --jobs 2 --record    # a run that is added to the record
python -m tests.fuzz headers --seed 3 --case 4711                         # one case again, its files kept
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "schemas"), str(ROOT / "reports")]

from tests.fuzz import running  # noqa: E402  # the paths come first


def _again(target: str, seed: int, number: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="auditor-fuzz-"))
    tally = running.Tally()
    running.run_case(running.bench_of(target, folder), seed, number, tally)
    print(f"kept in {folder}: {dict(tally.kinds)} {dict(tally.verdicts)} {sorted(tally.fired)}")
    print("\n".join(tally.wrong) or "nothing wrong")
    return 1 if tally.wrong else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Damages what the auditor reads.")
    parser.add_argument("target", choices=[*running.TARGETS, "all"])
    parser.add_argument("--cases", type=int, default=10_000, help="of all targets together where all are meant")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help="add the run to benchmarks/results/fuzz.json and .md")
    parser.add_argument("--case", type=int, metavar="NUMBER", help="run this one case again and keep its files")
    options = parser.parse_args()
    if options.case is not None:
        return _again(options.target, options.seed, options.case)
    if options.target != "all":
        return _run(options, options.target, options.cases)
    return max(_run(options, name, options.cases * share // 10_000) for name, share in running.TARGETS.items())


def _run(options: argparse.Namespace, target: str, cases: int) -> int:
    begun = time.perf_counter()

    def progress(tally: running.Tally) -> None:
        if sys.stderr.isatty():
            print(f"\r{tally.cases:,} cases, {len(tally.wrong)} wrong ", end="", file=sys.stderr, flush=True)

    numbers = range(options.first, options.first + cases)
    tally = running.run_all(target, seed=options.seed, numbers=numbers, jobs=options.jobs, progress=progress)
    seconds = time.perf_counter() - begun
    for wrong in tally.wrong[:20]:
        print(wrong)
    print(running.summary(target, tally, seconds, options.seed), flush=True)
    if options.record:
        running.record(target, tally, seconds=seconds, seed=options.seed, numbers=numbers)
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
