"""Measures full audits in parts and on a Ray cluster of this machine, and simulates a fleet from what units took.

    make benchmark-fleet      # or: python benchmarks/fleet.py [--record] [--gigabytes N] [--rounds N] [--strict]

Workers are nodes of a real cluster, with a processor each. This process imports the standard library alone; whatever
computes is a process of its own.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import content
from content import GB, MB, PARTS, Figures, Forged, Target, concluded, forge
from headers import HERE, Command, auditor, in_turn, middle

ROOT = HERE.parent
RESULTS = HERE / "results" / "fleet.md"
WAYS = {"with digests": (), "without digests": ("--no-digests",)}
SPREAD = 0.3  # speeds of a fleet are between 1 - this and 1 + this
FLEET, DRAWS = 64, 30
SPEEDS = (0.7, 0.9, 1.1, 1.3)  # of the four workers of the real run, in parts of PACE
PACE = 160e6  # bytes a second, few enough that four workers find room on two cores
EMPTY_UNITS = 1000
ELEMENTS = 930_000_000  # of a shard of what is read: two units of 475 MB without digests, those of the release are 481
FAST = 3  # times as many rounds of what is read without digests: they are as much shorter, and apart from each other
PARTS_AT_ONCE = 4
HEALTH_S = 3  # a node is dead that does not answer so long
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "none",
    "RAY_AUTH_MODE": "token",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": str(HEALTH_S),
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "schemas", ROOT / "reports", PARTS))),
}


class Nodes:
    """A cluster of a head and so many nodes, each at its pace; `address` as the engine takes it."""

    def __init__(self, *paces: float) -> None:
        command = [sys.executable, str(PARTS / "ray_nodes.py"), *map(str, paces)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.address, self.seconds = self._answer()

    def _answer(self) -> tuple[str, float]:
        assert self._process.stdout is not None
        address, seconds = json.loads(self._process.stdout.readline())
        return f"ray://{address}", seconds

    def ask(self, word: str) -> float:
        """Have the newest node killed; the seconds that it took."""
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)
        return self._answer()[1]

    def close(self) -> None:
        """Stop them."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@contextmanager
def nodes(*paces: float) -> Iterator[Nodes]:
    """A cluster for a while."""
    found = Nodes(*paces)
    try:
        yield found
    finally:
        found.close()


def part(name: str, *words: object, given: object = None) -> Any:
    """What a part printed last."""
    command = [sys.executable, str(PARTS / name), *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, input=json.dumps(given))
    return json.loads(done.stdout.splitlines()[-1])


def audit(checkpoint: Forged, engine: str, rounds: int, *words: str) -> Any:
    """An audit whose engine does its units so many times over."""
    return part("fleet_audit.py", checkpoint.folder, engine, rounds, *words)


def by_turns(checkpoint: Forged, rounds: int, each: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Audits side by side, of which one at a time does its units, so that all rounds see the same machine.

    `each` is an engine and more words by name. A round before them is not measured: to begin so many processes takes
    files out of the page cache.
    """
    words = (sys.executable, str(PARTS / "fleet_audit.py"), str(checkpoint.folder))
    pipe, lines, running = subprocess.PIPE, {}, {}

    def heard(name: str) -> None:
        out = running[name].stdout
        assert out is not None
        lines[name] = out.readline()

    for name, (engine, *more) in each.items():
        command = [*words, engine, str(rounds + 1), "--turns", *more]
        running[name] = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        heard(name)
    for _ in range(rounds + 1):
        for name, process in running.items():
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
            heard(name)
    found = {}
    for name, line in lines.items():
        seen = json.loads(line)
        unmeasured = len(seen["units"]) // (rounds + 1)
        found[name] = seen | {"seconds": seen["seconds"][1:], "units": seen["units"][unmeasured:]}
    return found


@dataclass(frozen=True)
class Measured:
    """What one worker took: rates of units of this machine's engine, the rate of a whole run on Ray, an empty unit."""

    units: dict[str, list[float]]
    alone: float
    empty: float


def ratio(some: list[float], others: list[float]) -> float:
    """Of two that took turns: the median of each round's."""
    return median(one / other for one, other in zip(some, others, strict=True))


def engines(figures: Figures, checkpoint: Forged, rounds: int) -> Measured:
    """Both engines with one and two workers."""
    found: dict[str, dict[str, Any]] = {}
    with nodes(0) as one, nodes(0, 0) as two:
        for way, words in WAYS.items():
            each = {
                "local, one worker": ("local", "--jobs", "1", *words),
                "local, two workers": ("local", "--jobs", "2", *words),
                "ray, one worker": (one.address, *words),
                "ray, two workers": (two.address, *words),
            }
            found[way] = by_turns(checkpoint, rounds if not words else FAST * rounds, each)
        begun = one.seconds
        empty = part("empty_units.py", two.address, EMPTY_UNITS)
    alone, starts = 0.0, []
    for way, of_way in found.items():
        took = {name: seen["seconds"] for name, seen in of_way.items()}
        for name, seconds in took.items():
            rate = figures.add(f"{name}, {way}", seconds, checkpoint.bytes)
            alone = alone or (rate if name == "ray, one worker" else 0)
        for engine in ("local", "ray"):
            gain = ratio(took[f"{engine}, one worker"], took[f"{engine}, two workers"])
            figures.targets.append(Target(f"{engine}: two workers / one, {way}", gain, 1.7))
            seen = of_way[f"{engine}, two workers"]
            starts.append(f"{engine}, {way}: {seen['before']:.1f} and {seen['first']:.1f} s")
        more = 100 * (ratio(took["ray, two workers"], took["local, two workers"]) - 1)
        figures.targets.append(Target(f"Ray's time beyond local's, two workers, {way}", more, 5, " %", least=False))
    figures.targets.append(Target("an empty unit", 1000 * empty, 5, " ms", least=False))
    figures.rows += [
        "",
        f"Not in these rates: a head and a node begin in {begun:.1f} s. Until the first unit begins (imports, headers, "
        "Ray's connection), and until four small ones are read (workers begin and load kernels): "
        f"{'; '.join(starts)}.",
    ]
    singles = {way: of_way["local, one worker"] for way, of_way in found.items()}
    return Measured({way: rates(seen["units"], seen["seconds"]) for way, seen in singles.items()}, alone, empty)


def rates(units: list[tuple[int, float]], seconds: list[float]) -> list[float]:
    """Bytes a second of large units, as if all rounds had had the median one's speed.

    That this machine is now faster, now slower is what the simulated workers' uneven speeds stand for.
    """
    each = len(units) // len(seconds)
    whole = median(seconds)
    return [
        size / took * seconds[number // each] / whole for number, (size, took) in enumerate(units) if size > 100 * MB
    ]


def memory(figures: Figures, layout: Forged) -> None:
    """The driver's memory and the object store while many shards are read."""
    local = audit(layout, "local", 1, "--no-digests")
    with nodes(0, 0) as cluster:
        seen = audit(layout, cluster.address, 1, "--no-digests")
    grown, alike = ((most - before) / MB for before, most, _ in (seen["memory"], local["memory"]))
    figures.rows += [
        "",
        f"{layout.tensors:,} tensors in {layout.shards} shards: from the first to the last shard Ray's driver grows "
        f"by {grown:.0f} MB, the local engine's process by {alike:.0f} MB: the facts that are judged.",
    ]
    figures.targets += [
        Target("the driver's growth with shards, beyond the local engine's", grown - alike, 20, " MB", least=False),
        Target("object store at the end", seen["store"] / MB, 10, " MB", least=False),
    ]


def death(figures: Figures, checkpoint: Forged, measured: Measured) -> None:
    """One node of two is killed when half is read."""
    with nodes(0, 0) as cluster:
        words = [sys.executable, str(PARTS / "fleet_audit.py"), str(checkpoint.folder), cluster.address, "1", "--half"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        killed = time.monotonic()
        cluster.ask("kill")
        seen = json.loads(process.communicate()[0])
    noticed, took, ideal = seen.get("noticed", killed) - killed, seen["ended"] - killed, seen["left"] / measured.alone
    figures.rows += [
        "",
        f"A node of two killed half-way: {seen['left'] / GB:.2f} GB were left, {ideal:.2f} s of one worker; they were "
        f"read after {took:.2f} s. Ray knew of it after {noticed:.2f} s (health checks: each second, dead after "
        f"{HEALTH_S} without an answer).",
    ]
    what = "a node killed half-way: until all is read (bound: 1.3 × the ideal, and Ray's detection)"
    figures.targets.append(Target(what, took, round(1.3 * ideal + noticed, 2), " s", least=False))


def simulation(figures: Figures, release: Path, checkpoint: Forged, measured: Measured) -> None:
    """A fleet reads the release's 163 shards, simulated; and four real workers against the same simulation."""
    subprocess.run(
        [auditor(), "forge", str(release), "--like", "v3", "--sparse"], check=True, stdout=subprocess.DEVNULL
    )
    with nodes(*(PACE * speed for speed in SPEEDS)) as cluster:
        for way, words in WAYS.items():
            asked = {"digests": not words, "each": measured.empty}
            fleet = {"folder": str(release), "workers": FLEET, "spread": SPREAD, "draws": DRAWS}
            told = part("schedule.py", given=asked | fleet | {"rates": measured.units[way]})
            name, against = (f"total / {FLEET}", "ideal") if words else ("the best plan of whole shards", "best")
            what = f"simulated, {FLEET} workers, {way} / {name}"
            figures.targets.append(Target(what, told["seconds"] / told[against], 1.1, least=False))
            figures.rows += [
                "",
                f"Simulated, {way}: {told['units']:,} units of {told['bytes'] / GB:.0f} GB on {FLEET} workers of this "
                f"machine's rates ± {SPREAD:.0%} take {told['seconds']:.1f} s; total / {FLEET} is {told['ideal']:.1f} "
                f"s, the best plan that was found {told['best']:.1f} s (medians of {DRAWS} draws).",
            ]
            four = {"folder": str(checkpoint.folder), "speeds": SPEEDS, "rates": [PACE]}
            foretold = part("schedule.py", given=asked | four)["seconds"]
            (real,) = audit(checkpoint, cluster.address, 1, *words)["seconds"]
            what = f"{len(SPEEDS)} real workers, {way}: {real:.1f} s, simulated {foretold:.1f} s; apart"
            figures.targets.append(Target(what, 100 * abs(real / foretold - 1), 10, " %", least=False))


def parts(figures: Figures, release: Path, layout: Forged, rounds: int) -> None:
    """Shares of the release, and what it takes to collect those of its layout."""
    shares = part("shares.py", release, PARTS_AT_ONCE)
    apart = (max(shares["bytes"]) - min(shares["bytes"])) / GB
    what = f"shares of {PARTS_AT_ONCE} parts of the release, apart (bound: the largest shard)"
    figures.targets.append(Target(what, apart, round(shares["largest"] / GB, 2), " GB", least=False))
    place = layout.folder.with_name("place")
    words = ("read", str(layout.folder), "--resume", str(place), "--quiet", "--jobs", "1")
    running = [
        subprocess.Popen([auditor(), *words, "--part", f"{number}/{PARTS_AT_ONCE}"])
        for number in range(1, PARTS_AT_ONCE + 1)
    ]
    if any(process.wait() for process in running):
        raise RuntimeError("a part was not read")
    whole = ("--depth", "full", "--seed", "1", "--resume", str(place), "--fail-on", "never")
    headers = Command("headers", (auditor(), "audit", str(layout.folder), "--quiet"))
    collecting = Command("collecting", (auditor(), "audit", str(layout.folder), "--quiet", *whole))
    runs = in_turn([headers, collecting], rounds)
    first, then = middle(runs[headers.name]), middle(runs[collecting.name])
    figures.rows += [
        "",
        f"{layout.tensors:,} tensors in {layout.shards} shards: a header audit takes {first:.2f} s, collecting the "
        f"parts and judging {then:.2f} s.",
    ]
    figures.targets.append(Target("collecting beyond a header audit", then - first, 2, " s", least=False))


def start(figures: Figures, layout: Forged) -> None:
    """Ray is no part of an audit that does not ask for it."""
    words = [sys.executable, "-X", "importtime", "-m", "auditor", "audit", str(layout.folder), "--quiet"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stderr.splitlines()
    modules = [line.rpartition("|")[2].strip().partition(".")[0] for line in lines]
    what = f"modules of Ray among the {len(modules)} of an audit without --engine"
    figures.targets.append(Target(what, modules.count("ray"), 0, "", least=False))


def versions() -> str:
    """The versions that took part."""
    return f"{content.versions()}, ray {metadata.version('ray')}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=20, help="size of what is read (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default: 5)")
    parser.add_argument("--dir", type=Path, help="where to forge: a disk with room for that")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/fleet.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is missed")
    options = parser.parse_args()
    os.environ.update(SETTINGS, RAY_AUTH_TOKEN=secrets.token_hex(32))
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="auditor-benchmark-", dir=options.dir) as name:
        folder = Path(name)
        large = forge(folder / "large", options.gigabytes, str(ELEMENTS))
        measured = engines(figures, large, options.rounds)
        death(figures, large, measured)
        simulation(figures, folder / "v3", large, measured)
        facts = part("forge_layout.py", folder / "layout", 163)
        layout = Forged(folder / "layout", facts["tensors"], facts["bytes"], facts["shards"])
        memory(figures, layout)
        parts(figures, folder / "v3", layout, options.rounds)
        start(figures, layout)
    words = ["python benchmarks/fleet.py", f"--gigabytes {options.gigabytes:g}", f"--rounds {options.rounds}"]
    told = (
        f"`{' '.join(words)}`; medians; a forged checkpoint of {large} in the page cache. A worker of Ray is a node "
        "with one processor; each cluster, its nodes and the driver are processes of this machine."
    )
    title = "# Audits in parts and on Ray, measured"
    return concluded(figures, title, told, RESULTS, options, versions())


if __name__ == "__main__":
    sys.exit(main())
