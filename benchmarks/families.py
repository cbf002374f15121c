"""Measures what each family costs beside DeepSeek-V3, as whole processes on every checkpoint that can be forged.

    make benchmark-families   # or: python benchmarks/families.py [--record] [--rounds N] [--only LIKE…] [--strict]

Each checkpoint is forged at full size, sparse, and audited at depth headers as its family and with `--family
structure`, in turn with a full-size V3 and with a V3 of some 300 tensors, which is nearly all start. What remains of a
process without that start, for each tensor, is what is compared.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent))

from headers import MIB, Command, auditor, in_turn, machine, versions  # the path comes first

RESULTS = Path(__file__).resolve().parent / "results" / "families.md"
START, UNIT = "tiny", "v3"
AS_FAMILY, ALONE = "family", "structure"
MOST_OF_V3, MOST_OF_FAMILY, MOST_MEMORY = 1.3, 2.0, 400e6


@dataclass(frozen=True)
class Cost:
    """What the audits of one checkpoint cost: medians, and the highest peak.

    `per_tensor` are seconds of processor time without the start; `of_v3` how many times that of V3, `of_family` how
    many times what the family's audit costs the one of structure costs. These three are of the least time in all
    rounds: a difference of two times is small beside what else happens on a machine, which only adds to them.
    """

    like: str
    tensors: int
    seconds: float
    processor: float
    per_tensor: float
    of_v3: float
    of_family: float
    peak: int

    @property
    def met(self) -> bool:
        """Whether all is within bounds."""
        return self.of_v3 <= MOST_OF_V3 and self.of_family <= MOST_OF_FAMILY and self.peak <= MOST_MEMORY

    def row(self) -> str:
        """A row of a Markdown table."""
        return (
            f"| {self.like} | {self.tensors:,} | {self.seconds * 1000:.0f} ms | {self.processor * 1000:.0f} ms "
            f"| {self.per_tensor * 1e6:.2f} µs | {self.of_v3:.2f} × | {self.of_family:.2f} × "
            f"| {self.peak / MIB:.0f} MiB | {'yes' if self.met else '**no**'} |"
        )


def likes() -> list[str]:
    """Every layout that can be forged at full size; asked in a process of its own, so that this one stays small."""
    listed = subprocess.run([auditor(), "forge", "--list-likes"], check=True, capture_output=True, text=True).stdout
    return [like for line in listed.splitlines() if (like := line.split()[0]) != START]


def forged(like: str, folder: Path) -> int:
    """Forge a checkpoint of full size, sparse; the number of its tensors."""
    words = [auditor(), "forge", str(folder / like), "--like", like, "--sparse"]
    printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return int(printed.rpartition(": ")[2].partition(" ")[0].replace(",", ""))


def cost(like: str, folder: Path, of_v3: int, rounds: int) -> tuple[Cost, float]:
    """Measure one checkpoint in turn with V3, of so many tensors, and with the start; also the start's time."""
    tensors = of_v3 if like == UNIT else forged(like, folder)
    words = (auditor(), "audit", "--quiet")
    commands = [
        Command(START, (*words, str(folder / START))),
        Command(AS_FAMILY, (*words, str(folder / like))),
        Command(UNIT, (*words, str(folder / UNIT))),
        Command(ALONE, (*words, str(folder / like), "--family", "structure")),
    ]
    runs = in_turn(commands, rounds)
    if like != UNIT:
        shutil.rmtree(folder / like)
    start, family, unit, alone = (min(run.processor for run in runs[each.name]) for each in commands)
    found = Cost(
        like,
        tensors,
        median(run.seconds for run in runs[AS_FAMILY]),
        median(run.processor for run in runs[AS_FAMILY]),
        (family - start) / tensors,
        (family - start) / tensors / ((unit - start) / of_v3),
        (alone - start) / (family - start),
        max(run.peak for run in (*runs[AS_FAMILY], *runs[ALONE])),
    )
    return found, start


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (default: 9)")
    parser.add_argument("--only", nargs="+", metavar="LIKE", help="these checkpoints alone")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/families.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a bound is missed")
    options = parser.parse_args()
    costs: list[Cost] = []
    starts: list[float] = []
    with tempfile.TemporaryDirectory(prefix="auditor-benchmark-") as name:
        folder = Path(name)
        small, of_v3 = forged(START, folder), forged(UNIT, folder)
        for like in options.only or likes():
            found, start = cost(like, folder, of_v3, options.rounds)
            costs.append(found)
            starts.append(start)
            print(found.row(), file=sys.stderr)
    lines = [
        "# Every family, measured",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}; {machine()}; {versions(None)}.",
        "",
        f"Whole processes, {options.rounds} rounds in turn with warm caches, on sparse checkpoints of full size; "
        "medians of wall and processor time. Per tensor and in ratios it is the least processor time of all rounds, "
        "since other work on a machine only adds to it, less what an audit of "
        f"{small} tensors takes ({1000 * median(starts):.0f} ms), so that a small "
        "checkpoint is not charged with the start. V3 is measured in the same rounds, `--family structure` on the "
        "same checkpoint.",
        "",
        "| forged like | tensors | wall | processor | per tensor | of V3 | structure | peak memory | met |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
        *(each.row() for each in costs),
        "",
        f"Bounds: per tensor at most {MOST_OF_V3} × V3, structure at most {MOST_OF_FAMILY:g} × the family's audit, "
        f"either in at most {MOST_MEMORY / MIB:.0f} MiB.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.record:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, "utf-8")
    return 1 if options.strict and not all(each.met for each in costs) else 0


if __name__ == "__main__":
    sys.exit(main())
