"""The parameters of each component, counted from the headers, equal the config's exactly."""

from collections.abc import Iterator

from auditor.facts import Tally
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="CNT101",
    slug="contradicted-count",
    title="The headers hold other parameters than the config implies",
    severity=Severity.ERROR,
    scope=Scope.COUNT,
    examines="components",
)


def check(tally: Tally) -> Iterator[Failure]:
    """One failure per component whose two counts differ; optional copies may be absent whole."""
    for component, (expected, actual) in tally.components.items():
        if expected == actual or (component in ("mtp_embedding", "mtp_head") and actual == 0):
            continue
        yield RULE.failure(
            f"{component.replace('_', ' ')}: headers hold {actual:,} parameters, the config implies {expected:,}",
            field=component,
            expected=expected,
            actual=actual,
        )
    if tally.scale_elements != tally.expected_scale_elements:
        yield RULE.failure(
            f"scales: headers hold {tally.scale_elements:,} values, "
            f"the config implies {tally.expected_scale_elements:,}",
            field="scales",
            expected=tally.expected_scale_elements,
            actual=tally.scale_elements,
        )
