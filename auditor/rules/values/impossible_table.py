"""A table that names experts names those that there are, and none twice in one row."""

from collections.abc import Iterator

from auditor.comparison.bad_values import place
from auditor.content.probes import Probes
from auditor.content.values import TableValues, TensorValues
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL128",
    slug="impossible-table",
    title="A table names experts that are not there, or one twice",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tables read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per table with numbers outside its range, or with rows that hold one twice; they fold."""
    found = [
        (values, values.table)
        for values in probes.others
        if values.table is not None and (values.table.outside or values.table.repeated)
    ]
    for position, (values, table) in enumerate(found):
        many = f"; {len(found):,} tables are alike" if position == 0 and len(found) > 1 else ""
        first = table.first_outside or table.first_repeated
        yield RULE.failure(
            " and ".join(_told(values, table)) + many,
            file=values.file,
            tensor=values.name,
            span=None if first is None else (first.begin, first.end),
            expected={"from": 0, "to": table.below - 1, "distinct": True},
            actual={"outside": table.outside, "repeated": table.repeated, "rows": table.rows},
            fold=RULE.slug,
        )


def _told(values: TensorValues, table: TableValues) -> Iterator[str]:
    if table.outside:
        verb = "is" if table.outside == 1 else "are"
        first = table.first_outside
        at = "" if first is None else f", the first ({first.text}) at {place(values, first)}"
        yield f"{plural(table.outside, 'number')} {verb} not in 0 to {table.below - 1}{at}"
    if table.repeated:
        first = table.first_repeated
        at = "" if first is None else f", the first {place(values, first).partition(',')[0]}"
        verb = "holds" if table.repeated == 1 else "hold"
        yield f"{table.repeated:,} of {plural(table.rows, 'row')} {verb} a number twice{at}"
