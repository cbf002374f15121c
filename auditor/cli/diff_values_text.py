"""What values say of a conversion, as lines of text: the verdict first, then what was done, then the worst tensors."""

from collections.abc import Iterator, Sequence

from auditor.text import listed, plural, share, shown, size
from auditor_schemas.conversion import ComparedKind, ComparedTensor, ConversionValues, UnpairedTensors

_TENSORS = 8
_ROWS = 12
_PATTERNS = 3
_WORDS = {
    "same_bytes": "same bytes",
    "same_values": "same values",
    "requantised": "requantised",
    "rounded": "rounded",
    "different": "different",
    "not_compared": "not compared",
}


def value_lines(values: ConversionValues) -> Iterator[str]:
    """The conversion, long lists cut; the JSON has all of them."""
    yield ""
    yield f"{values.verdict}: {shown(values.conclusion)}"
    yield from (f"  {shown(each)}" for each in values.conversions[:_ROWS])
    yield ""
    yield "values"
    yield from _cut([_kind(each) for each in values.kinds])
    worst = [each for each in values.tensors if each.relation == "different"]
    if worst:
        yield ""
        yield f"worst tensors: {min(_TENSORS, len(worst)):,} of {len(worst) + values.more:,}"
        for tensor in worst[:_TENSORS]:
            yield from _tensor(tensor)
    yield from _unpaired("left out", "-", values.left_out)
    yield from _unpaired("new", "+", values.added)
    yield ""
    part = f"{size(values.bytes_read)} of {size(values.bytes_total)} of tensor data of both sides"
    seed = f", seed {values.seed}" if values.seed is not None else ""
    state = f"; {plural(values.resumed_files, 'file')} from the state folder" if values.resumed_files else ""
    yield f"read: {part} ({share(values.bytes_read, values.bytes_total)}){seed}{state}"
    for reason in values.not_compared:
        yield f"not compared: {shown(reason)}"
    for reason in values.unread:
        yield f"not read: {shown(reason)}"


def _kind(kind: ComparedKind) -> str:
    way = kind.new_format if kind.old_format == kind.new_format else f"{kind.old_format} → {kind.new_format}"
    text = f"{_WORDS[kind.relation]}: {plural(kind.count, 'tensor')}, {way}"
    said = kind.formula if kind.relation != "different" else kind.fault
    text += f": {said}" if said else ""
    if kind.relation in ("rounded", "requantised", "different") and kind.largest_error:
        text += f"; largest error {kind.largest_error:.3g}, root mean square {kind.rms_error:.3g}"
    return f"{text}: {listed(kind.patterns, most=_PATTERNS)}"


def _tensor(tensor: ComparedTensor) -> Iterator[str]:
    other = "" if tensor.old == tensor.new else f" (OLD's {shown(tensor.old)})"
    yield f"  ~ {shown(tensor.new)}{other}"
    yield f"      {shown(tensor.message)}"
    first = tensor.first
    if first is not None:
        where = f"row {first.row:,}, column {first.column:,}: {first.old} → {first.new}"
        yield f"      first at {where}; {shown(first.file)}, bytes {first.bytes[0]:,} to {first.bytes[1]:,}"


def _unpaired(title: str, sign: str, tensors: Sequence[UnpairedTensors]) -> Iterator[str]:
    if not tensors:
        return
    yield ""
    yield f"{title}: {plural(sum(each.count for each in tensors), 'tensor')}"
    rows = []
    for each in tensors:
        excused = f" ({each.excused})" if each.excused else ""
        rows.append(f"{sign} {each.format} {each.shape}{excused}: {listed(each.patterns, most=_PATTERNS)}")
    yield from _cut(rows)


def _cut(rows: Sequence[str]) -> Iterator[str]:
    yield from (f"  {shown(row)}" for row in rows[:_ROWS])
    if len(rows) > _ROWS:
        yield f"  … and {len(rows) - _ROWS:,} more; --json has all"
