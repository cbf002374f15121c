"""Each attempt that docs/threats.md numbers names a test that there is."""

import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| (\d+)\.(\d+) \| .+ \| .+ \| \[`(test_\w+)`\]\(\.\./(tests/\S+\.py)\) \|$")


def test_every_attempt_is_numbered_in_turn_and_its_test_is_there():
    lines = [
        line for line in (ROOT / "docs" / "threats.md").read_text("utf-8").splitlines() if re.match(r"\| \d", line)
    ]
    rows = [row for line in lines if (row := ROW.fullmatch(line))]
    assert len(rows) == len(lines) > 50
    numbers = [(int(row[1]), int(row[2])) for row in rows]
    for before, after in pairwise(numbers):
        assert after in ((before[0], before[1] + 1), (before[0] + 1, 1))
    for row in rows:
        assert f"def {row[3]}(" in (ROOT / row[4]).read_text("utf-8"), row[3]
