"""What the bytes of tensors say: values, round trips, spot checks and digests."""

from typing import Literal

from auditor_schemas.record import Record


class RoundTrip(Record):
    """What dequantising and quantising again did to weight blocks.

    exact: codes and scale come back bit for bit. value_equal: other codes and scale, the same values.
    changed: other values; of these `drifted` keep their codes while the scale moves, by its last bits. undefined: a NaN
    code or an unusable scale leaves nothing to compare.
    `largest_relative_error` is that of the dequantised values, over the changed blocks.
    """

    blocks: int
    exact: int
    value_equal: int
    changed: int
    undefined: int
    largest_relative_error: float | None
    drifted: int = 0


class ScaleProbe(Record):
    """The values of block scales. `exponents` counts the finite positive ones by floor(log2(scale)).

    `published` counts those of them that are amax / 448 of some amax in float32, `reciprocal` those that are
    1 / (448 / amax) of one: about nine in ten of any numbers are the one, eight in ten the other. `above` is how many
    times its tensor's median the largest scale is, where that is most, `below` how many times below it the smallest.
    """

    values: int
    nan: int
    infinite: int
    zero: int
    negative: int
    subnormal: int
    powers_of_two: int
    minimum: float | None
    median: float | None
    maximum: float | None
    exponents: dict[int, int]
    published: int = 0
    reciprocal: int = 0
    above: float | None = None
    below: float | None = None


class Texture(Record):
    """What the bytes of tensors look like; the thresholds of a policy are held against these figures.

    `small_codes` is the largest share, in a page of 4 KiB, of FP8 codes below 0.125 of 448, 0 aside, beside ones of
    every other size. `zero_run` and `sign_run` are the longest runs of codes, in blocks that hold something, that are
    0, or others of one sign, by chunks of 64. `doubled_pages` are there twice, one behind the other. Of a matrix
    `zero_rows` and `doubled_rows` are the shares of rows that are zeros, or hold what another does. `median_exponents`
    are the least and the largest floor(log2) of a tensor's median |value|, `far_values` the largest share of its values
    that are more than 2^20 from that.
    """

    small_codes: float | None = None
    zero_run: int | None = None
    sign_run: int | None = None
    doubled_pages: int = 0
    zero_rows: float | None = None
    doubled_rows: float | None = None
    median_exponents: tuple[int, int] | None = None
    far_values: float | None = None


class ProbeGroup(Record):
    """Tensors of one kind in one layer, by their values.

    `kind` is the tensor name behind the layer, `{expert}` in the place of experts' numbers; `layer` is null
    outside the layers. Minimum and maximum are over finite values, of FP8 weights over codes without scale.
    `largest_codes` counts weight blocks by their largest |code| (the FP8 bit pattern without its sign,
    126 is 448, 127 is NaN).
    """

    layer: int | None
    kind: str
    dtype: str
    tensors: int
    elements: int
    elements_read: int
    nan: int
    infinite: int
    zeros: int
    minimum: float | None
    maximum: float | None
    zero_blocks: int = 0
    largest_codes: dict[int, int] | None = None
    round_trip: RoundTrip | None = None
    scales: ScaleProbe | None = None
    texture: Texture | None = None


class TensorProbe(Record):
    """One spot-checked FP8 weight: the rows that were read and how its blocks round-trip."""

    tensor: str
    file: str
    shape: tuple[int, ...]
    rows_read: tuple[tuple[int, int], ...]
    round_trip: RoundTrip
    verdict: Literal["exact", "value_equal", "changed", "undefined"]


class FunctionalCheck(Record):
    """Quantised activations times an FP8 weight, against the float32 product of the dequantised weight.

    Relative error in the Frobenius norm. A measure of the format at work; it judges nothing.
    """

    tensor: str
    tokens: int
    rows: int
    device: str
    relative_error: float
    tolerance: float
    within: bool


ScaleFormula = Literal["amax / 448", "1 / (448 / amax)", "2^ceil(log2(amax / 448))", "none"]


class Probes(Record):
    """What the bytes that were read say of the values, where content was read.

    `scale_formula` is the one that all block scales read follow, but for one in thirty at most; null without scales.
    """

    groups: tuple[ProbeGroup, ...]
    tensors: tuple[TensorProbe, ...]
    functional: tuple[FunctionalCheck, ...]
    scale_formula: ScaleFormula | None = None


class ShardDigest(Record):
    """A whole shard by its SHA-256, as hubs declare it for large files."""

    file: str
    bytes: int
    sha256: str


class TensorDigests(Record):
    """The XXH3-128 of tensors' bytes, in the order in which their {a-b} pattern counts, the last number first."""

    pattern: str
    xxh3_128: tuple[str, ...]


class ContentDigest(Record):
    """Which bytes were audited at depth full. `sha256` is over the canonical JSON of the shards' digests."""

    sha256: str
    shards: tuple[ShardDigest, ...]
    tensors: tuple[TensorDigests, ...]
