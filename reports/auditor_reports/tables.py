"""An audit report as CSV tables: inventory, tallies and findings, one file each, through pandas.

Numbers are numbers. Text is shown as everywhere, and text that a spreadsheet would run as a formula, or that begins
with an apostrophe itself, has an apostrophe before it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from auditor_reports.outline import layers
from auditor_reports.text import shown
from auditor_reports.text import value as value_text
from auditor_schemas.finding import Finding
from auditor_schemas.report import AuditReport

# What Excel, LibreOffice and Google Sheets begin a formula with, full-width forms included, which some fold.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "−", "＠", "'")

_Rows = tuple[tuple[str, ...], Iterable[Sequence[Any]]]


def render(report: AuditReport) -> dict[str, str]:
    """The text of each file by its name."""
    import pandas as pd

    files = {}
    for name, rows in _TABLES.items():
        columns, cells = rows(report)
        # dtype object: integers stay exact and whole beside empty cells, where a float column would round them.
        table = pd.DataFrame([[_cell(each) for each in row] for row in cells], columns=list(columns), dtype=object)
        files[f"{name}.csv"] = table.to_csv(index=False, lineterminator="\n")
    return files


def escaped(text: str) -> str:
    """Text as a cell holds it; what `_cell` writes begins with none of the characters that start a formula."""
    visible = shown(text)
    return f"'{visible}" if visible.lstrip().startswith(_FORMULA) else visible


def _cell(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) else value


def _inventory(report: AuditReport) -> _Rows:
    columns = ("pattern", "dtype", "shape", "elements_each", "tensors", "files")
    return columns, (
        (row.pattern, row.dtype, "x".join(map(str, row.shape)), _product(row.shape), row.count, " ".join(row.files))
        for row in report.layout
    )


def _tallies(report: AuditReport) -> _Rows:
    columns = ("component", "from_config", "from_headers", "difference")
    tallies = report.tallies
    rows: list[tuple[str, int | None, int | None, int | None]] = [
        (
            each.component,
            each.from_config,
            each.from_headers,
            None if each.from_config is None else each.from_headers - each.from_config,
        )
        for each in tallies.components
    ]
    rows.append(("scale_elements", None, tallies.scale_elements, None))
    rows.append(("unclassified_elements", None, tallies.unclassified_elements, None))
    return columns, rows


def _findings(report: AuditReport) -> _Rows:
    columns = (
        "rule", "slug", "severity", "status", "message", "file", "tensor", "field", "byte_begin", "byte_end",
        "first_layer", "last_layer", "expected", "actual", "count", "affected", "caused_by", "fingerprint",
        "waiver_reason", "waiver_owner", "waiver_expires", "more",
    )  # fmt: skip
    return columns, map(_finding, report.findings)


def _finding(each: Finding) -> tuple[Any, ...]:
    at, waiver = each.location, each.waiver
    begin, end = at.bytes if at.bytes is not None else (None, None)
    first, last = layers(each) or (None, None)
    return (
        each.rule, each.slug, each.severity.value, each.status, each.message, at.file, at.tensor, at.field, begin, end,
        first, last, _stated(each.expected), _stated(each.actual), each.count, " ".join(each.affected),
        each.caused_by, each.fingerprint, waiver.reason if waiver else None, waiver.owner if waiver else None,
        waiver.expires.isoformat() if waiver else None, each.more,
    )  # fmt: skip


def _stated(value: Any) -> Any:
    """A number as a number, all else as the other views print it."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    return value_text(value)


def _product(shape: Iterable[int]) -> int:
    product = 1
    for each in shape:
        product *= each
    return product


_TABLES: dict[str, Callable[[AuditReport], _Rows]] = {
    "inventory": _inventory, "tallies": _tallies, "findings": _findings,
}  # fmt: skip
