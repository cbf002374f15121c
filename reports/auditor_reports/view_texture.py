"""What the bytes of each kind of tensor look like, worded: the figures that a policy's thresholds are held against."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from auditor_reports import text
from auditor_schemas.content import ProbeGroup, Texture

NOT_LOOKED_AT = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextureView:
    """One kind of tensor, over all layers: of each figure the one that is furthest from sound."""

    kind: str
    dtype: str
    small_codes: str
    runs: str
    doubled_pages: str
    zero_rows: str
    doubled_rows: str
    exponents: str
    far_values: str


def texture_views(groups: Iterable[ProbeGroup]) -> list[TextureView]:
    """A row for each kind of which anything was looked at, in the order of the report."""
    merged: dict[tuple[str, str], list[Texture]] = {}
    for group in groups:
        if group.texture is not None:
            merged.setdefault((group.kind, group.dtype), []).append(group.texture)
    return [_view(kind, dtype, members) for (kind, dtype), members in merged.items()]


def _view(kind: str, dtype: str, members: list[Texture]) -> TextureView:
    exponents = [each.median_exponents for each in members if each.median_exponents is not None]
    zeros, sign = _most(members, lambda each: each.zero_run), _most(members, lambda each: each.sign_run)
    runs = [f"{text.number(int(count))} {what}" for count, what in ((zeros, "zeros"), (sign, "of one sign")) if count]
    looked_at = zeros is not None or sign is not None
    return TextureView(
        kind=kind,
        dtype=dtype,
        small_codes=_share(_most(members, lambda each: each.small_codes)),
        runs=", ".join(runs) or ("none" if looked_at else NOT_LOOKED_AT),
        doubled_pages=text.number(sum(each.doubled_pages for each in members)),
        zero_rows=_share(_most(members, lambda each: each.zero_rows)),
        doubled_rows=_share(_most(members, lambda each: each.doubled_rows)),
        exponents=_exponents(exponents),
        far_values=_share(_most(members, lambda each: each.far_values)),
    )


def _most(members: list[Texture], figure: Callable[[Texture], float | None]) -> float | None:
    return max((value for each in members if (value := figure(each)) is not None), default=None)


def _share(share: float | None) -> str:
    return NOT_LOOKED_AT if share is None else f"{100 * share:.3g} %"


def _exponents(spans: list[tuple[int, int]]) -> str:
    if not spans:
        return NOT_LOOKED_AT
    least, most = min(low for low, _ in spans), max(high for _, high in spans)
    return text.power(least) if least == most else f"{text.power(least)} to {text.power(most)}"
