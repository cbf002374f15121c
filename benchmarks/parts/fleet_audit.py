"""One full audit whose engine does its units several times over: FOLDER ENGINE ROUNDS.

The first units come once before, so that workers, kernels and files are there. Prints as JSON what took how long, the
driver's anonymous memory and what lies in the object store; `--half` tells on a line before when half is read. With
`--turns` each round waits for a line on standard input, and says `ready` before.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BEGUN = time.perf_counter()

import auditor  # noqa: E402  # its import counts
from auditor.content import Reading, nodes  # noqa: E402  # as above
from auditor.content.plan import ShardPlan  # noqa: E402  # as above
from auditor.content.shard import ShardReader  # noqa: E402  # as above
from auditor.engine.local import Local  # noqa: E402  # as above

POLL_S = 0.02


class Watch:
    """What is seen of the one engine of an audit. `tells_half` says when half is read, and notes a node's death."""

    def __init__(self, rounds: int, *, tells_half: bool, turns: bool) -> None:
        self.rounds = rounds
        self.tells_half = tells_half
        self.turns = turns
        self.seen: dict[str, Any] = {"seconds": [], "units": []}
        self._out = os.dup(1)  # standard output is not Ray's, and so diverted while it is connected

    def times(self, run: Callable[..., None]) -> Callable[..., None]:
        """An engine's `run` that does the last units, and then all of them for each round."""

        def run_in_rounds(engine: Any, units: list[ShardPlan], meanwhile: Any = None) -> None:
            del meanwhile  # the spot check, which is no engine's
            self.seen["before"] = time.perf_counter() - BEGUN
            begun = time.perf_counter()
            if not self.tells_half:  # the audit's count of bytes is then that of one round
                run(engine, units[-4:])
            self.seen["first"] = time.perf_counter() - begun
            self.seen["units"].clear()
            for _ in range(self.rounds):
                if self.turns:
                    os.write(self._out, b"ready\n")
                    sys.stdin.readline()
                with self._memory():
                    begun = time.perf_counter()
                    run(engine, units)
                    self.seen["seconds"].append(time.perf_counter() - begun)
            self.seen["ended"] = time.monotonic()
            if "ray" in sys.modules:
                import ray

                name = "object_store_memory"
                self.seen["store"] = ray.cluster_resources()[name] - ray.available_resources()[name]

        return run_in_rounds

    def units(self, read_unit: Callable[..., Any]) -> Callable[..., Any]:
        """Note bytes and seconds of each unit that this process reads."""

        def noted(reader: ShardReader, unit: ShardPlan) -> Any:
            begun = time.perf_counter()
            values = read_unit(reader, unit)
            self.seen["units"].append([unit.bytes, time.perf_counter() - begun])
            return values

        return noted

    def progress(self, done: int, total: int) -> None:
        """The audit's own count of bytes."""
        if self.tells_half and "left" not in self.seen and 2 * done >= total:
            self.seen["left"] = total - done
            os.write(self._out, b"half\n")
            threading.Thread(target=self._notice, daemon=True).start()

    def _notice(self) -> None:
        """Note when the cluster knows that it has a node less."""
        import ray

        def alive() -> int:
            return sum(node["Alive"] for node in ray.nodes())

        before = alive()
        with suppress(Exception):  # the audit ends before
            while alive() == before:
                time.sleep(POLL_S)
            self.seen["noticed"] = time.monotonic()

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Note anonymous memory before, at its highest, and after."""
        found = [anonymous()]
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(POLL_S):
                found.append(anonymous())

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.seen["memory"] = [found[0], max(found), anonymous()]


def anonymous() -> int:
    """This process's anonymous memory in bytes."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("engine")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--no-digests", action="store_true")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--turns", action="store_true")
    options = parser.parse_args()
    watch = Watch(options.rounds, tells_half=options.half, turns=options.turns)
    Local.run = watch.times(Local.run)
    ShardReader.read = watch.units(ShardReader.read)
    if options.engine != "local":
        import paced

        from auditor.engine.ray import Ray

        Ray.run = watch.times(Ray.run)
        nodes.read_away = paced.read
    reading = Reading(
        depth="full",
        seed=1,
        device="cpu",
        engine=options.engine,
        jobs=options.jobs,
        digests=not options.no_digests,
        progress=watch.progress,
    )
    report = auditor.audit(options.folder, depth="full", reading=reading)
    if report.incomplete:
        raise SystemExit(f"incomplete: {report.incomplete}")
    print(json.dumps(watch.seen))


if __name__ == "__main__":
    main()
