"""Measures `diff --values` as whole processes, in turn with plain full audits of both sides, on forged data.

    python benchmarks/conversions.py [--record] [--gigabytes N] [--rounds N] [--strict]

This process imports the standard library alone; whatever computes is a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from content import MB, PARTS, Figures, Forged, Target, audit, concluded, forge, peak_anonymous, versions
from headers import HERE, Command, auditor, in_turn, middle

RESULTS = HERE / "results" / "conversions.md"
KINDS = {"bf16": "FP8 cast to BF16", "ue8m0": "FP8 with scales made powers of two"}


def convert(old: Forged, folder: Path, kind: str) -> Forged:
    """A conversion by torch."""
    command = [sys.executable, str(PARTS / "convert_content.py"), str(old.folder), str(folder), kind]
    facts = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return Forged(folder, facts["tensors"], facts["bytes"], facts["shards"])


def diff(old: Forged, new: Forged) -> Command:
    """A whole comparison, as a process that must find the conversion faithful."""
    words = ("diff", str(old.folder), str(new.folder), "--values")
    return Command("diff --values", (auditor(), *words))


def compare(figures: Figures, old: Forged, new: Forged, kind: str, rounds: int, *, bound: float) -> None:
    """One conversion beside audits of its sides, which read half as much or more."""
    one, other = Command("old", audit(old).words), Command("new", audit(new).words)
    command = diff(old, new)

    def warmed(_: Command) -> None:
        for side in (old, new):
            subprocess.run(["cat", *side.folder.iterdir()], check=True, stdout=subprocess.DEVNULL)

    runs = in_turn([one, other, command], rounds, warmed)
    rates = {}
    for each, what, size in (
        (one, "audit --depth full, OLD", old.bytes),
        (other, f"audit --depth full, NEW ({kind})", new.bytes),
        (command, f"diff --values, {KINDS[kind]}", old.bytes + new.bytes),
    ):
        rates[each.name] = figures.add(what, [run.seconds for run in runs[each.name]], size)
    slower = min(rates["old"], rates["new"])
    figures.targets.append(Target(f"{KINDS[kind]}: rate / the slower audit's", rates[command.name] / slower, bound))
    longer = max(middle(runs["old"]), middle(runs["new"]))
    figures.rows.append(f"| time / the longer audit's | {middle(runs[command.name]) / longer:.2f} × | | |")
    peak = peak_anonymous(command)
    figures.targets.append(Target(f"{KINDS[kind]}: anonymous memory", peak / MB, 400, " MB", least=False))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=4, help="size of the FP8 checkpoint (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default: 5)")
    parser.add_argument("--dir", type=Path, help="where to forge: a disk with room for 4 × that")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/conversions.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is missed")
    options = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="auditor-benchmark-", dir=options.dir) as name:
        old = forge(Path(name) / "fp8", options.gigabytes)
        sides = [str(old)]
        for kind in KINDS:
            new = convert(old, Path(name) / kind, kind)
            sides.append(str(new))
            compare(figures, old, new, kind, options.rounds, bound=0.8)
    told = (
        f"`python benchmarks/conversions.py --gigabytes {options.gigabytes:g} --rounds {options.rounds}`; medians; a "
        f"warm page cache; forged checkpoints of {', '.join(sides)}. Rates are of the bytes of tensors that a process "
        "reads: `diff --values` reads both sides, once each."
    )
    return concluded(figures, "# Conversions, measured", told, RESULTS, options, versions())


if __name__ == "__main__":
    sys.exit(main())
