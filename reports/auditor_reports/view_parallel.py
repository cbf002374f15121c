"""What parallel sizes do to the checkpoint: splits against block boundaries, and how experts and layers divide."""

from collections.abc import Iterable
from dataclasses import dataclass

from auditor_reports import text
from auditor_reports.charts import Segment, stack
from auditor_schemas.parallelism import Parallelism, Stage
from auditor_schemas.report import AuditReport


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCell:
    """One kind of tensor at one size: how long a partition is, and whether blocks divide it."""

    mark: str
    kind: str
    partition: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow:
    """One kind of tensor across all sizes."""

    pattern: str
    length: str
    cells: tuple[SplitCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRow:
    """One size of a table: what is divided how, with the bytes of the largest rank."""

    size: str
    divided: tuple[str, ...]
    bytes: str
    bar: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelView:
    """The parallelism section; empty where no layout is expected."""

    sizes: tuple[tuple[str, bool], ...]
    rows: tuple[SplitRow, ...]
    bytes: tuple[str, ...]
    sentence: str
    reasons: tuple[str, ...]
    experts: tuple[RankRow, ...]
    stages: tuple[RankRow, ...]


def parallel_view(report: AuditReport) -> ParallelView:
    """The section, worded."""
    tables = report.parallelism
    clean = [str(table.tensor_parallel) for table in tables if table.clean]
    rough = [str(table.tensor_parallel) for table in tables if not table.clean]
    sentence = ""
    if clean:
        sentence = f"Tensor parallel sizes {text.listed(clean)} split every quantised weight on a block boundary"
        sentence += f"; {text.listed(rough)} {'does' if len(rough) == 1 else 'do'} not." if rough else "."
    elif rough:
        sentence = f"None of the tensor parallel sizes {text.listed(rough)} splits every weight on a block boundary."
    largest = max((each.bytes_per_rank for each in report.expert_parallelism), default=0)
    widest = max((stage.bytes for each in report.pipeline_parallelism for stage in each.stages), default=0)
    held = [table.bytes_per_rank for table in tables]
    return ParallelView(
        sizes=tuple((str(table.tensor_parallel), table.clean) for table in tables),
        rows=_rows(tables),
        bytes=tuple("—" if size is None else text.size(size) for size in held) if any(held) else (),
        sentence=sentence,
        reasons=tuple(
            dict.fromkeys(f"TP {table.tensor_parallel}: {split.reason}" for table in tables for split in table.uneven)
        ),
        experts=tuple(
            RankRow(
                size=str(each.expert_parallel),
                divided=(
                    text.plural(each.most, "expert")
                    if each.fewest == each.most
                    else f"{each.fewest:,} or {each.most:,} experts, unevenly",
                ),
                bytes=text.size(each.bytes_per_rank),
                bar=stack([("shade-0", each.bytes_per_rank, "")], largest),
            )
            for each in report.expert_parallelism
        ),
        stages=tuple(
            RankRow(
                size=str(each.pipeline_parallel),
                divided=_divide(each.stages),
                bytes=text.size(max(stage.bytes for stage in each.stages)),
                bar=stack([("shade-0", max(stage.bytes for stage in each.stages), "")], widest),
            )
            for each in report.pipeline_parallelism
            if each.stages
        ),
    )


def _divide(stages: Iterable[Stage]) -> tuple[str, ...]:
    """The layers of each stage: '0–15', '16–30'."""
    ranges = (stage.layers for stage in stages)
    return tuple(f"{first}–{stop - 1}" if stop - first > 1 else str(first) for first, stop in ranges)


def _rows(tables: tuple[Parallelism, ...]) -> tuple[SplitRow, ...]:
    patterns: dict[str, None] = {}
    for table in tables:
        patterns.update(dict.fromkeys(split.pattern for split in table.even))
        patterns.update(dict.fromkeys(split.pattern for split in table.uneven))
    even = {(table.tensor_parallel, split.pattern): split for table in tables for split in table.even}
    uneven = {(table.tensor_parallel, split.pattern): split for table in tables for split in table.uneven}
    rows = []
    for pattern in patterns:
        cells, length = [], ""
        for table in tables:
            key = (table.tensor_parallel, pattern)
            if key in uneven:
                bad = uneven[key]
                length = f"{bad.size:,} along axis {bad.axis}"
                cells.append(SplitCell(mark="✘", kind="uneven", partition=f"{bad.partition:,.10g}", title=bad.reason))
            elif key in even:
                good = even[key]
                length = f"{good.size:,} along axis {good.axis}"
                cells.append(SplitCell(mark="✓", kind="even", partition=f"{good.partition:,}", title=""))
            else:
                cells.append(SplitCell(mark="✓", kind="even", partition="", title=""))
        rows.append(SplitRow(pattern=pattern, length=length, cells=tuple(cells)))
    return tuple(rows)
