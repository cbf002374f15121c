"""No block dequantises to infinity: its largest code times its scale is a float32 number."""

from collections.abc import Iterator

from auditor.content.probes import Probes
from auditor.text import plural
from auditor_schemas.rule import Failure, RoundTrip, Rule, Scope, Severity

RULE = Rule(
    id="VAL118",
    slug="overflowing-block",
    title="A weight block dequantises to infinity",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="weight blocks read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per weight with blocks whose codes and scales are numbers and whose weights are not."""
    found = [(values, values.blocks) for values in probes.weights if values.blocks and values.blocks.overflowing]
    total = sum(blocks.overflowing for _, blocks in found)
    for position, (values, blocks) in enumerate(found):
        first = blocks.first_overflowing
        assert first is not None
        many = f"; {total:,} in {len(found):,} weights" if position == 0 and len(found) > 1 else ""
        yield RULE.failure(
            f"{plural(blocks.overflowing, 'block')} of {blocks.blocks:,} overflow float32, the first at block row "
            f"{first.row:,}, column {first.column:,}: largest |code| 0x{first.largest:02x} times scale "
            f"{first.scale:.9g}{many}",
            file=values.file,
            tensor=values.name,
            span=(first.begin, first.end),
            expected="products of at most 3.4e38",
            actual={"blocks": blocks.overflowing, "of": blocks.blocks, "scale": first.scale},
            takes=(*probes.beside(values.name), RoundTrip(values.name)),
            fold=RULE.slug,
        )
