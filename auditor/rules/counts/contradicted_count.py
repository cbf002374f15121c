"""The parameters of each component, counted from the headers, equal the config's exactly."""

from collections import Counter
from collections.abc import Iterator

from auditor.comparison.records import SCALES, Differences, Match, Tally
from auditor.format.entries import elements
from auditor_schemas.rule import Excess, Failure, Rule, Scope, Severity

RULE = Rule(
    id="CNT101",
    slug="contradicted-count",
    title="The headers hold other parameters than the config implies",
    severity=Severity.ERROR,
    scope=Scope.COUNT,
    examines="components",
)


def check(tally: Tally, match: Match, differences: Differences) -> Iterator[Failure]:
    """One failure per component whose two counts differ; optional tensors that are absent do not count."""
    absent = Counter[str]()
    for row in match.absent.values():
        absent[row.component] += elements(row.shape)
    for component, (implied, actual) in tally.components.items():
        expected = (implied or 0) - absent[component]
        if expected == actual:
            continue
        yield RULE.failure(
            f"{component.replace('_', ' ')}: headers hold {actual:,} parameters, the config implies {expected:,}",
            field=component,
            expected=expected,
            actual=actual,
            excess=(Excess(actual - expected, differences.of(component)),),
        )
    scales = (tally.expected_scale_elements or 0) - absent[SCALES]
    if tally.scale_elements != scales:
        yield RULE.failure(
            f"scales: headers hold {tally.scale_elements:,} values, the config implies {scales:,}",
            field=SCALES,
            expected=scales,
            actual=tally.scale_elements,
            excess=(Excess(tally.scale_elements - scales, differences.of(SCALES)),),
        )
