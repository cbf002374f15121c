"""What says the unpacked shape of packed codes says the shape that the config implies."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures
from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL127",
    slug="wrong-weight-shape",
    title="weight_shape is not the shape of the packed weight",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="shapes read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per tensor that says another shape; they fold."""
    found = [
        Bad(values, 1, 1)
        for values in probes.others
        if values.shape_said is not None and values.shape_said != values.unpacked
    ]
    return failures(
        RULE,
        found,
        lambda bad: f"says {_shape(bad.values.shape_said)}, the packed weight is {_shape(bad.values.unpacked)}",
        expected="the unpacked shape",
        actual=lambda bad: list(bad.values.shape_said or ()),
        whole=True,
    )


def _shape(numbers: tuple[int, ...] | None) -> str:
    return " × ".join(f"{number:,}" for number in numbers or ()) or "nothing"
