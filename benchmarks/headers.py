"""Measures a header audit as whole processes, in turn with its peers, on a forged full-size DeepSeek-V3 layout.

    make benchmark            # or: python benchmarks/headers.py [--record] [--rounds N] [--no-scaling] [--strict]

This process imports the standard library alone and stays small: a child's peak memory begins at its parent's.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median

# An installed command has its bytecode: where none may be written, every start of ours would compile it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
RESULTS = HERE / "results" / "headers.md"
MIB = 1 << 20
# Layers whose checkpoints hold about 250,000 and 590,000 tensors, near the limit; the release has 61 and 91,991.
SCALES = (61, 162, 380)
WAYS = ("compact", "spaced", "sorted", "shuffled", "padded", "escaped")


@dataclass(frozen=True)
class Run:
    """One process: wall seconds, peak resident bytes, and the seconds that processors worked for it."""

    seconds: float
    peak: int
    processor: float


@dataclass(frozen=True)
class Command:
    """What is measured, under a name; `tensors` is what it must print, where it prints a count."""

    name: str
    words: tuple[str, ...]
    tensors: int | None = None


def measure(command: Command) -> Run:
    """Run one process to its end; raises RuntimeError where it fails or counts something else."""
    with tempfile.TemporaryFile() as out:
        begun = time.perf_counter()
        process = os.posix_spawn(
            command.words[0], command.words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        )
        _, status, usage = os.wait4(process, 0)
        seconds = time.perf_counter() - begun
        out.seek(0)
        printed = out.read().decode()
    if status != 0:
        raise RuntimeError(f"{command.name}: exit {os.waitstatus_to_exitcode(status)}\n{printed}")
    if command.tensors is not None and int(printed) != command.tensors:
        raise RuntimeError(f"{command.name} saw {printed.strip()} tensors, not {command.tensors}")
    scale = 1 if sys.platform == "darwin" else 1024
    return Run(seconds, usage.ru_maxrss * scale, usage.ru_utime + usage.ru_stime)


def in_turn(
    commands: Sequence[Command], rounds: int, before: Callable[[Command], None] | None = None
) -> dict[str, list[Run]]:
    """Every command once per round, each round beginning with another; a first round warms caches and is dropped.

    `before` is called before each run, and not measured.
    """
    runs: dict[str, list[Run]] = {command.name: [] for command in commands}
    for turn in range(rounds + 1):
        begin = turn % len(commands)
        for command in [*commands[begin:], *commands[:begin]]:
            if before is not None:
                before(command)
            run = measure(command)
            if turn:
                runs[command.name].append(run)
    return runs


def middle(runs: Sequence[Run]) -> float:
    """The median of the wall times, in seconds."""
    return median(run.seconds for run in runs)


def forged(folder: Path, layers: int | None = None) -> int:
    """Forge DeepSeek-V3, or its shapes with other layers; the number of tensors."""
    if layers is None:
        words = [auditor(), "forge", str(folder), "--like", "v3", "--sparse"]
    else:
        words = [sys.executable, str(PEERS / "forge_layers.py"), str(folder), str(layers)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return 91_991 if layers is None else int(done.stdout)


def auditor() -> str:
    """The installed command of this environment."""
    path = Path(sys.executable).parent / "auditor"
    if not path.exists():
        raise SystemExit(f"{path} is not there: install the project into this environment (make .venv/.dev)")
    return str(path)


@dataclass(frozen=True)
class Target:
    """A figure held against its bound."""

    what: str
    value: float
    bound: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the figure is within its bound."""
        return self.value <= self.bound

    def row(self) -> str:
        """A row of a Markdown table."""
        return f"| {self.what} | {self.value:.2f}{self.unit} | ≤ {self.bound:g}{self.unit} | {_yes(self.met)} |"


def _yes(met: bool) -> str:
    return "yes" if met else "**no**"


def compare(folder: Path, tensors: int, rounds: int, hub_python: Path | None) -> tuple[list[str], list[Target]]:
    """The audit and its peers on one checkpoint: rows of a table, and targets."""
    python, where = sys.executable, str(folder)
    commands = [
        Command("auditor audit --quiet", (auditor(), "audit", where, "--quiet")),
        Command("orjson alone", (python, str(PEERS / "bare_orjson.py"), where), tensors),
        Command("safetensors walk", (python, str(PEERS / "safetensors_walk.py"), where), tensors),
    ]
    if hub_python is not None:
        commands.append(Command("huggingface_hub", (str(hub_python), str(PEERS / "hub_metadata.py"), where), tensors))
    runs = in_turn(commands, rounds)
    rows = ["| process | median | min to max | peak memory | audit is |", "|---|---:|---:|---:|---:|"]
    ours = runs[commands[0].name]
    rows += [_row(command.name, runs[command.name], middle(ours)) for command in commands]
    peak = max(run.peak for run in ours)
    targets = [
        Target("audit / orjson alone", middle(ours) / middle(runs["orjson alone"]), 2.4, " ×"),
        Target("audit / safetensors walk", middle(ours) / middle(runs["safetensors walk"]), 1.3, " ×"),
        Target("peak memory of the audit", peak / MIB, 150e6 / MIB, " MiB"),
    ]
    if hub_python is not None:
        targets.insert(1, Target("audit / huggingface_hub", middle(ours) / middle(runs["huggingface_hub"]), 0.5, " ×"))
    return rows, targets


def start_up(rounds: int) -> tuple[list[str], list[Target]]:
    """The command's help against an interpreter that does nothing."""
    commands = [
        Command("auditor --help", (auditor(), "--help")),
        Command("python -c pass", (sys.executable, "-c", "pass")),
    ]
    runs = in_turn(commands, 2 * rounds)
    ours = middle(runs["auditor --help"])
    rows = [_row(command.name, runs[command.name], ours) for command in commands]
    return rows, [Target("auditor --help / python -c pass", ours / middle(runs["python -c pass"]), 3.0, " ×")]


def otherwise(checkpoint: Path, rounds: int) -> tuple[list[str], list[Target]]:
    """The audit of the same checkpoint with its JSON written in other ways: rows of a table, and targets."""
    commands = []
    for way in WAYS:
        where = checkpoint.with_name(way)
        words = [sys.executable, str(PEERS / "write_otherwise.py"), str(checkpoint), str(where), way]
        subprocess.run(words, check=True)
        commands.append(Command(way, (auditor(), "audit", str(where), "--quiet")))
    runs = in_turn(commands, rounds)
    compact = middle(runs["compact"])
    rows = ["| written | median | min to max | peak memory | compact is |", "|---|---:|---:|---:|---:|"]
    rows += [_row(way, runs[way], compact) for way in WAYS]
    return rows, [
        Target(f"{way} / compact", middle(runs[way]) / compact, 1.6, " ×") for way in WAYS if way != "compact"
    ]


def scaling(folder: Path, rounds: int) -> list[str]:
    """The audit on ever larger checkpoints: rows of a table. Linear means that the cost per tensor stays."""
    rows = ["| tensors | median | per tensor | peak memory | per tensor |", "|---:|---:|---:|---:|---:|"]
    for layers in SCALES:
        where = folder / f"layers-{layers}"
        tensors = forged(where, layers)
        command = Command(f"{layers} layers", (auditor(), "audit", str(where), "--quiet"))
        runs = in_turn([command], rounds)[command.name]
        seconds, peak = middle(runs), max(run.peak for run in runs)
        rows.append(
            f"| {tensors:,} | {seconds:.2f} s | {seconds / tensors * 1e6:.2f} µs | {peak / MIB:,.0f} MiB "
            f"| {peak / tensors:,.0f} B |"
        )
        print(rows[-1], file=sys.stderr)
    return rows


def _row(name: str, runs: Sequence[Run], ours: float) -> str:
    times = [run.seconds * 1000 for run in runs]
    peak = max(run.peak for run in runs) / MIB
    ratio = ours / middle(runs)
    span = f"{min(times):.0f} to {max(times):.0f} ms"
    return f"| {name} | {median(times):.0f} ms | {span} | {peak:.0f} MiB | {ratio:.2f} × |"


def machine() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores"


def versions(hub_python: Path | None) -> str:
    """The versions that took part."""
    named = [f"{platform.python_implementation()} {platform.python_version()}"]
    distributions = ("checkpoint-auditor", "msgspec", "pydantic", "orjson", "safetensors")
    named += [f"{name} {metadata.version(name)}" for name in distributions]
    if hub_python is not None:
        script = "import huggingface_hub; print(huggingface_hub.__version__)"
        done = subprocess.run([str(hub_python), "-c", script], check=True, capture_output=True, text=True)
        named.append(f"huggingface_hub {done.stdout.strip()}")
    return ", ".join(named)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (default: 9)")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the larger checkpoints")
    parser.add_argument("--hub-python", type=Path, help="an interpreter with benchmarks/peers/requirements.txt")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/headers.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is missed")
    options = parser.parse_args()
    if options.hub_python is None:
        print("huggingface_hub is not measured: name an interpreter with --hub-python", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="auditor-benchmark-") as name:
        folder = Path(name)
        tensors = forged(folder / "v3")
        rows, targets = compare(folder / "v3", tensors, options.rounds, options.hub_python)
        start_rows, start_targets = start_up(options.rounds)
        way_rows, way_targets = otherwise(folder / "v3", options.rounds)
        larger = [] if options.no_scaling else scaling(folder, max(3, options.rounds // 3))
    targets += start_targets + way_targets
    lines = [
        "# Header audits, measured",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}; {machine()}, {platform.system()}; {versions(options.hub_python)}.",
        "",
        f"Whole processes, {options.rounds} rounds in turn with warm caches, on a forged sparse DeepSeek-V3 layout "
        f"({tensors:,} tensors in 163 shards).",
        "",
        *rows,
        *start_rows,
        "",
        "The same checkpoint with its JSON written in other ways:",
        "",
        *way_rows,
        "",
        "| target | measured | bound | met |",
        "|---|---:|---:|---|",
        *(target.row() for target in targets),
    ]
    if larger:
        lines += ["", "The same audit with more layers:", "", *larger]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.record:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text, "utf-8")
    return 1 if options.strict and not all(target.met for target in targets) else 0


if __name__ == "__main__":
    sys.exit(main())
