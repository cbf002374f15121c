"""Dequantising a block and quantising it again by the published formula gives its codes and scale back."""

from collections.abc import Iterator

from auditor.probes import BlockValues, Probes, TensorValues
from auditor.text import plural
from auditor.values import round_trip_of
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL109",
    slug="irreproducible-block",
    title="Blocks that quantising cannot have left",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weight blocks read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per FP8 weight with such blocks. Those whose scales merely drifted fold, and so do the others."""
    drifted: list[tuple[TensorValues, BlockValues]] = []
    other: list[tuple[TensorValues, BlockValues]] = []
    read = 0
    for values in probes.weights():
        blocks = values.blocks
        assert blocks is not None
        read += blocks.blocks
        if blocks.foreign:
            (drifted if blocks.drifted >= blocks.foreign else other).append((values, blocks))
    formula = "2^ceil(log2(amax / 448))" if probes.powers_of_two else "amax / 448"
    for kind, found in (("drifted", drifted), ("other", other)):
        for position, (values, blocks) in enumerate(found):
            note = blocks.first_foreign
            message = _told([blocks], blocks.blocks, formula)
            if position == 0 and len(found) > 1:
                message = f"{_told([each for _, each in found], read, formula)}, in {len(found):,} weights"
            at = f"; the first at block row {note.row:,}, column {note.column:,}" if note is not None else ""
            yield RULE.failure(
                message + at,
                file=values.file,
                tensor=values.name,
                span=None if note is None else (note.begin, note.end),
                expected=f"scale = {formula}",
                actual=_actual(blocks),
                blames=(round_trip_of(values.name),),
                fold=kind,
            )


def _told(every: list[BlockValues], read: int, formula: str) -> str:
    """The figures of one weight, or of all together, among all blocks read."""
    foreign = sum(each.foreign for each in every)
    drifted, unsaturated = sum(each.drifted for each in every), sum(each.unsaturated for each in every)
    error = max(each.error for each in every)
    cannot = f"{foreign:,} of {plural(read, 'block')} read cannot come from scale = {formula}"
    how = []
    if drifted:
        how.append(f"{min(drifted, foreign):,} keep their codes and move their scale")
    if unsaturated:
        how.append(f"{unsaturated:,} lack the largest code that it leaves")
    if error:
        how.append(f"values change by up to {100 * error:.2g} %")
    return f"{cannot}: {', '.join(how)}" if how else cannot


def _actual(blocks: BlockValues) -> dict[str, object]:
    actual: dict[str, object] = {
        "foreign": blocks.foreign,
        "of": blocks.blocks,
        "drifted": blocks.drifted,
        "unsaturated": blocks.unsaturated,
        "error": blocks.error,
    }
    note = blocks.first_foreign
    if note is not None:
        actual |= {"block": [note.row, note.column], "scale": note.scale, "largest_code": note.largest}
    return actual
