"""Some FP8 weights are scaled in the blocks that the declaration says."""

from collections.abc import Iterator

from auditor.comparison.structure.declared import Declared
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT211",
    slug="other-block-declared",
    title="Scales are of another block than the declared one",
    severity=Severity.WARNING,
    scope=Scope.CONFIG,
    examines="declarations",
)


def check(declared: Declared) -> Iterator[Failure]:
    """A failure where every FP8 weight with scales has another block."""
    other = declared.other_block
    if other is not None:
        block, _ = other
        declaration = declared.declaration
        yield RULE.failure(
            f"blocks of {declaration.block} are declared, no FP8 weight has scales for these; most are of {block}",
            file=declaration.file,
            field=f"{declaration.field}.weight_block_size",
            expected=str(declaration.block),
            actual=str(block),
        )
