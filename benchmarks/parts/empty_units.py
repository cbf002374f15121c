"""Seconds for each of many units that do nothing on a cluster's nodes: ADDRESS UNITS."""

import json
import sys
import time

import paced

from auditor.engine.cluster import Cluster
from auditor.engine.ray import Ray


def main() -> None:
    """The command line."""
    with_units = list(map(str, range(int(sys.argv[2]))))
    done: list[str] = []
    cluster = Cluster(sys.argv[1].removeprefix("ray://"))
    engine = Ray(
        cluster,
        paced.nothing,
        packed=lambda unit, _: unit.encode(),
        opened=lambda *given: given[-1],
        size=len,
        finished=lambda unit, _: done.append(unit),
        failed=lambda unit, error: print(unit, error, file=sys.stderr),
        watch=lambda _: None,
    )
    engine.run(with_units[:20])  # workers begin
    done.clear()
    begun = time.perf_counter()
    engine.run(with_units)
    seconds = time.perf_counter() - begun
    cluster.close()
    if len(done) != len(with_units):
        raise SystemExit(f"{len(done)} units of {len(with_units)} were done")
    print(json.dumps(seconds / len(done)))


if __name__ == "__main__":
    main()
