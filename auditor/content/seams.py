"""Tensors that several units read, put together from their pieces: the values are those of one pass over the whole."""

from collections.abc import Sequence

from msgspec.structs import replace

from auditor.content.kernels.strips import CHUNK
from auditor.content.plan import PAGE, Part
from auditor.content.scales import CodeSurvey
from auditor.content.texture import doubled_between, joined_runs, joined_texture
from auditor.content.values import BlockValues, RowValues, Seam, TableValues, TensorValues, Texture

_COUNTS = ("blocks", "zero", "exact", "value_equal", "changed", "undefined", "overflowing", "drifted", "foreign",
           "unsaturated", "narrow")  # fmt: skip
_FIRSTS = ("first_nan", "first_overflowing", "first_changed", "first_foreign", "first_other")


def joined(part: Part, pieces: Sequence[TensorValues]) -> TensorValues:
    """The values of a tensor, from those of its pieces in the order of the file; `part` is any of theirs."""
    part, whole = replace(part, rows=(), piece=False), pieces[0]
    for piece in pieces[1:]:
        whole = _joined(part, whole, piece)
    return replace(whole, rows=(), seam=None)


def _joined(part: Part, left: TensorValues, right: TensorValues) -> TensorValues:
    a, b = left.seam, right.seam
    assert a is not None
    assert b is not None
    place = part.begin + right.rows[0][0] * part.row_bytes
    doubled, first_doubled = doubled_between(part, a.tail, b.head, place)
    # Where the scales of a piece could not be read, nothing is said of blocks.
    judged = left.blocks is not None and right.blocks is not None
    seam = Seam(
        first=a.first,
        head=a.head,
        tail=b.tail,
        small=(a.small[0], b.small[1]),
        runs=joined_runs(part, a.runs, b.runs, place) if judged else (),  # type: ignore[arg-type]  # there are two
        codes=b.codes,
    )
    survey = _survey(part, left, right)
    return replace(
        left,
        read=left.read + right.read,
        nan=left.nan + right.nan,
        infinite=left.infinite + right.infinite,
        zeros=left.zeros + right.zeros,
        minimum=min((each for each in (left.minimum, right.minimum) if each is not None), default=None),
        maximum=max((each for each in (left.maximum, right.maximum) if each is not None), default=None),
        constant=left.constant and right.constant and a.first == b.first,
        e4m3=left.e4m3 and right.e4m3,
        rows=((left.rows[0][0], right.rows[0][1]),),
        first_nonfinite=left.first_nonfinite or right.first_nonfinite,
        blocks=_blocks(left.blocks, right.blocks),
        scales=None if survey is None else survey.result(),
        table=_table(left.table, right.table),
        bands=left.bands + right.bands if judged or left.blocks is right.blocks else b"",
        texture=_texture(part, left, right, seam, place) if judged else None,
        matrix=_rows(left.matrix, right.matrix),
        exponents=_sums(left.exponents, right.exponents),
        doubled_pages=left.doubled_pages + doubled + right.doubled_pages,
        first_doubled=left.first_doubled or first_doubled or right.first_doubled,
        seam=seam if survey is None else replace(seam, codes=survey.codes),
    )


def _blocks(left: BlockValues | None, right: BlockValues | None) -> BlockValues | None:
    if left is None or right is None:
        return None
    return BlockValues(
        **{name: getattr(left, name) + getattr(right, name) for name in _COUNTS},
        **{name: getattr(left, name) or getattr(right, name) for name in _FIRSTS},
        largest=_sums(left.largest, right.largest),
        error=max(left.error, right.error),
    )


def _texture(part: Part, left: TensorValues, right: TensorValues, seam: Seam, place: int) -> Texture:
    assert left.texture is not None
    assert right.texture is not None
    assert left.seam is not None
    assert right.seam is not None
    page, before, behind = None, place % PAGE, -place % PAGE
    looked_at = part.blocks is not None and part.blocks.shape[1] % CHUNK == 0
    if before and looked_at:
        codes = left.seam.tail[-before:] + right.seam.head[:behind]
        page = codes, left.seam.small[1] + right.seam.small[0], place - before
    return joined_texture(part, left.texture, right.texture, seam.runs, page)  # type: ignore[arg-type]  # as above


def _survey(part: Part, left: TensorValues, right: TensorValues) -> CodeSurvey | None:
    """What both have seen of scales that are codes."""
    if left.scales is None or part.beside is None:
        return None
    survey = CodeSurvey(part, part.beside)
    for each in (left, right):
        assert each.seam is not None
        survey.add_codes(each.seam.codes)
    return survey


def _table(left: TableValues | None, right: TableValues | None) -> TableValues | None:
    if left is None or right is None:
        return None
    return TableValues(
        below=left.below,
        rows=left.rows + right.rows,
        outside=left.outside + right.outside,
        repeated=left.repeated + right.repeated,
        first_outside=left.first_outside or right.first_outside,
        first_repeated=left.first_repeated or right.first_repeated,
    )


def _rows(left: RowValues | None, right: RowValues | None) -> RowValues | None:
    if left is None or right is None:
        return None
    return RowValues(left.rows + right.rows, left.zeros + right.zeros)


def _sums(left: dict[int, int], right: dict[int, int]) -> dict[int, int]:
    return {key: left.get(key, 0) + right.get(key, 0) for key in sorted(left.keys() | right.keys())}
