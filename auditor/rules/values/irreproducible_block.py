"""Dequantising a block and quantising it again by a formula in use gives its codes back."""

from collections.abc import Iterator
from typing import NamedTuple

from auditor.content.probes import Probes
from auditor.content.values import BlockNote, BlockValues, TensorValues
from auditor.text import plural
from auditor_schemas.rule import Failure, RoundTrip, Rule, Scope, Severity

RULE = Rule(
    id="VAL109",
    slug="irreproducible-block",
    title="Blocks that quantising cannot have left",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="weight blocks read",
)


class _Found(NamedTuple):
    """A weight with such blocks, and the first of them."""

    values: TensorValues
    blocks: BlockValues
    foreign: int
    first: BlockNote | None


def check(probes: Probes, narrow_blocks: int) -> Iterator[Failure]:
    """One failure per FP8 weight with such blocks; they fold.

    `narrow_blocks`: that many blocks reach 240 and none exceeds it, so that is what scales were made for.
    """
    found: list[_Found] = []
    read = 0
    for values in probes.weights:
        blocks = values.blocks
        assert blocks is not None
        read += blocks.blocks
        foreign = blocks.foreign - (blocks.narrow if narrow_blocks else 0)
        if foreign:
            first = blocks.first_other if narrow_blocks else blocks.first_foreign
            found.append(_Found(values, blocks, foreign, first))
    amax = "amax / 240" if narrow_blocks else "amax / 448"
    formula = f"2^ceil(log2({amax}))" if probes.powers_of_two else amax
    for position, each in enumerate(found):
        message = _message([each], each.blocks.blocks, formula)
        if position == 0 and len(found) > 1:
            message = f"{_message(found, read, formula)}, in {len(found):,} weights"
        note = each.first
        at = f"; the first at block row {note.row:,}, column {note.column:,}" if note is not None else ""
        yield RULE.failure(
            message + at,
            file=each.values.file,
            tensor=each.values.name,
            span=None if note is None else (note.begin, note.end),
            expected=f"scale = {formula}",
            actual=_actual(each),
            blames=(RoundTrip(each.values.name),),
            fold=RULE.slug,
        )


def _message(every: list[_Found], read: int, formula: str) -> str:
    """The figures of one weight, or of all together, among all blocks read."""
    foreign = sum(each.foreign for each in every)
    unsaturated = sum(min(each.blocks.unsaturated, each.foreign) for each in every)
    error = max(each.blocks.error for each in every)
    cannot = f"{foreign:,} of {plural(read, 'block')} read cannot come from scale = {formula}"
    how = []
    if unsaturated:
        how.append(f"{unsaturated:,} lack the largest code that it leaves")
    if error:
        how.append(f"values change by up to {100 * error:.2g} %")
    return f"{cannot}: {', '.join(how)}" if how else cannot


def _actual(each: _Found) -> dict[str, object]:
    actual: dict[str, object] = {
        "foreign": each.foreign,
        "of": each.blocks.blocks,
        "unsaturated": min(each.blocks.unsaturated, each.foreign),
        "error": each.blocks.error,
    }
    note = each.first
    if note is not None:
        actual |= {"block": [note.row, note.column], "scale": note.scale, "largest_code": note.largest}
    return actual
