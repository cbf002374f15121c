"""What the page carries for its script: the report's JSON, and the findings in the page's order."""

import base64
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from auditor_reports import text
from auditor_reports.view_findings import (
    HEADINGS,
    MARKS,
    FindingsView,
    byte_range,
)
from auditor_schemas.finding import Finding

# Beyond this, what the page carries travels compressed: 50,000 findings are 20 MB of JSON.
PLAIN_BYTES = 1 << 20
# Up to here a script's numbers are exact, and it may write them itself.
EXACT = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """JSON inside the page, as it is or packed."""

    id: str
    type: str
    packed: bool
    text: Markup


def carry(name: str, document: str) -> Carried:
    """JSON for the page, packed where it is long."""
    packed = len(document) > PLAIN_BYTES
    held = _pack(document) if packed else text.embed(document)
    kind = "application/octet-stream" if packed else "application/json"
    return Carried(id=name, type=kind, packed=packed, text=Markup(held))  # noqa: S704  # base64, or escaped


# With its quotes: to find these first is several times faster than to try every letter.
_DIGEST = re.compile('"([0-9a-f]{64})"')


def _pack(document: str) -> str:
    """JSON as gzip, and apart from it the SHA-256 digests that do not compress, each in base64.

    In a digest's place stands U+0001, which JSON text never holds as it is.
    """
    parts = _DIGEST.split(document)
    digests = bytes.fromhex("".join(parts[1::2]))
    rest = gzip.compress('"\x01"'.join(parts[::2]).encode(), 6, mtime=0)
    return f"{base64.b64encode(rest).decode()}.{base64.b64encode(digests).decode()}"


def findings_data(every: tuple[Finding, ...], listed: FindingsView) -> str:
    """Every root in the page's order as JSON, with the marks of severities and what stands above each."""
    rows = (_row(every, root, listed.children.get(root, ()), listed.anchors) for root in listed.order)
    data = {"marks": MARKS, "headings": HEADINGS, "rows": list(_step(rows, [0]))}
    return json.dumps(data, separators=(",", ":"))


def _row(every: tuple[Finding, ...], index: int, below: Sequence[int], anchors: list[str]) -> list[object]:
    """A finding for the page's script: its position in the report, and what is not shown as it stands there.

    What the report says is not said again: a page with 50,000 findings has no room for it twice.
    """
    finding = every[index]
    rows = [_row(every, i, (), anchors) for i in below]
    return [index, _otherwise(finding, anchors[index]) or 0, *([rows] if rows else ())]


def _otherwise(finding: Finding, anchor: str) -> dict[str, object]:
    """The fields whose words are not those of the report's JSON, with these words."""
    location, waiver = finding.location, finding.waiver
    words: dict[str, object] = {}
    if anchor != f"finding-{finding.fingerprint[:12]}":
        words["anchor"] = anchor
    for name, value in (
        ("rule", finding.rule),
        ("slug", finding.slug),
        ("message", finding.message),
        ("file", location.file),
        ("tensor", location.tensor),
        ("field", location.field),
    ):
        if value is not None and not (value.isascii() and value.isprintable()) and text.shown(value) != value:
            words[name] = text.shown(value)
    if location.bytes is not None and max(map(abs, location.bytes)) > EXACT:
        words["bytes"] = byte_range(location.bytes)
    if finding.expected is not None or finding.actual is not None:
        for name, content in (("expected", finding.expected), ("actual", finding.actual)):
            if content is None:
                continue
            worded = text.shown(text.value(content))
            if worded != content:
                words[name] = worded
    if waiver is not None:
        words |= {
            "waiver": text.shown(waiver.reason),
            "owner": None if waiver.owner is None else text.shown(waiver.owner),
            "expires": str(waiver.expires),
        }
    if not all(name.isascii() and name.isprintable() for name in finding.affected):
        words["patterns"] = [text.shown(name) for name in finding.affected]
    return words


def _step(rows: Iterable[list[object]], follows: list[int]) -> Iterator[list[object]]:
    """Rows whose position is written as the step from the one that follows the row before: mostly 0."""
    for index, otherwise, *below in rows:
        assert isinstance(index, int)
        step, follows[0] = index - follows[0], index + 1
        children = [list(_step(each, follows)) for each in below if isinstance(each, list)]
        yield [step, otherwise, *children]
