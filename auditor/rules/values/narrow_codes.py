"""Codes use the whole range of E4M3, up to 448."""

from collections.abc import Iterator

from auditor.content.probes import Probes
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL122",
    slug="narrow-codes",
    title="No code exceeds 240, the range of E4M3FNUZ",
    severity=Severity.INFO,
    scope=Scope.CHECKPOINT,
    examines="weight blocks read",
)


def check(probes: Probes, narrow_blocks: int) -> Iterator[Failure]:
    """One failure where blocks reach 240 and none exceeds it."""
    if not narrow_blocks:
        return
    read = sum(values.blocks.blocks for values in probes.weights if values.blocks is not None)
    yield RULE.failure(
        f"no code exceeds 240, the range of E4M3FNUZ, in {plural(read, 'weight block')} read; those of E4M3 reach 448",
        expected={"largest": 448},
        actual={"largest": 240, "blocks": read},
    )
