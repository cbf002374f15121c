"""Units of work on the nodes of a Ray cluster: what goes out, what comes back, and what was computed where."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from auditor.content import ENGINES, Reading
from auditor.content.away import Opening, answered, compile_kernels, ordered, read_away
from auditor.content.plan import ShardPlan
from auditor.content.probes import NodeShare
from auditor.content.values import ShardValues
from auditor.engine import Engine
from auditor.errors import ReadError, UsageError, code_of
from auditor.sources import Source
from auditor.text import quoted

Kind = Literal["cpu", "cuda"]


@dataclass
class Shares:
    """What each node has read, by its address and what computed there."""

    found: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def add(self, node: str, device: str, bytes_read: int) -> None:
        """Another unit."""
        units, before = self.found.get((node, device), (0, 0))
        self.found[node, device] = units + 1, before + bytes_read

    @property
    def nodes(self) -> tuple[NodeShare, ...]:
        """In the order of their addresses."""
        return tuple(NodeShare(*key, *found) for key, found in sorted(self.found.items()))

    @property
    def devices(self) -> str | None:
        """What computed, each once; None where nothing was read."""
        return ", ".join(sorted({device for _, device in self.found})) or None


def _address(engine: str) -> str:
    """Of a cluster: the one named, or by RAY_ADDRESS, or `auto`. Raises UsageError where the environment's is none.

    With `local` there Ray would start a cluster of its own.
    """
    there = os.environ.get("RAY_ADDRESS", "")
    if "://" not in engine and there not in ("", "auto"):
        if not re.fullmatch(ENGINES, f"ray://{there}"):
            raise UsageError(f"RAY_ADDRESS {quoted(there)}: needs HOST:PORT of a Ray cluster")
        return there
    return engine.partition("://")[2] or "auto"


@contextmanager
def cluster_engine(
    reading: Reading,
    source: Source,
    opening: Opening,
    shares: Shares,
    *,
    gpus: bool,
    finished: Callable[[ShardPlan, ShardValues], None],
    failed: Callable[[ShardPlan, Exception], None],
    watch: Callable[[int], None],
) -> Iterator[Engine[ShardPlan]]:
    """The engine that has units read by the cluster that `reading` names; `gpus`: theirs may compute.

    Raises UsageError or SourceError for a cluster that cannot serve.
    """
    from auditor.engine.cluster import Cluster
    from auditor.engine.ray import ElsewhereError, NoGpuError, Ray

    def packed(unit: ShardPlan, kind: Kind) -> bytes:
        return ordered(opening, unit, source.stamp(unit.file), digests=reading.digests, device=kind)

    def opened(unit: ShardPlan, node: str, data: bytes) -> ShardValues:
        answer = answered(data, unit, source.stamp)
        if answer.values is None:
            kind = NoGpuError if answer.no_gpu else ElsewhereError
            raise kind(answer.error, code=answer.code or "unsupported")
        shares.add(node, answer.device, answer.values.bytes_read)
        return answer.values

    def refused(unit: ShardPlan, error: Exception) -> None:
        failed(unit, ReadError(f"{unit.file}: {error}", code=code_of(error)))

    kinds: tuple[Kind, ...] = ("cpu",)
    if gpus:
        kinds = ("cuda",) if reading.device == "cuda" else ("cuda", "cpu")
    with closing(Cluster(_address(reading.engine), kinds, reading.gpu_share)) as cluster:
        if cluster.open_to_others:
            reading.warning("this Ray cluster has no token: whoever reaches it can run anything on it")

        def waiting() -> None:
            if reading.preparing is not None:
                reading.preparing("compiling kernels on the nodes")

        cluster.everywhere(compile_kernels, waiting)
        yield Ray[ShardPlan, ShardValues](
            cluster,
            read_away,
            packed=packed,
            opened=opened,
            size=lambda unit: unit.bytes,
            finished=finished,
            failed=refused,
            watch=watch,
            told=reading.warning,
            most=reading.jobs,
        )
