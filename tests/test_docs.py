"""What the docs count and name is there."""

import re
from itertools import pairwise
from pathlib import Path

from auditor.families import families
from auditor.rules import catalogue

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


def test_the_docs_count_and_list_the_rules_there_are():
    rules = [module.rule for module in catalogue()]
    page = (ROOT / "docs" / "rules" / "README.md").read_text("utf-8")
    assert f"There are {len(rules)};" in page
    assert f"{len(rules)} rules, each with a page" in (ROOT / "README.md").read_text("utf-8")
    listed = re.findall(r"\(([a-z0-9-]+)\.md\)", page)
    assert {rule.slug for rule in rules} <= set(listed)
    assert {rule.slug for rule in rules} <= {path.stem for path in (ROOT / "docs" / "rules").glob("*.md")}


def test_each_family_has_a_page_that_says_what_was_checked_and_what_no_header_can_tell():
    for name, family in families().items():
        if family.expects:
            page = (ROOT / "docs" / "families" / f"{name}.md").read_text("utf-8")
            headings = re.findall("^## (.+)$", page, re.MULTILINE)
            assert headings == ["What it is", "Formats", "What was checked against what", "What no header can tell"], (
                name
            )
            assert all(f"`{each}`" in page for each in (*family.model_types, *family.architectures)), name


def test_each_rule_is_in_the_folder_of_its_ids():
    kinds = {"CFG": "config", "FIL": "files", "IDX": "index", "HDR": "headers", "NAM": "names", "SHP": "shapes"}
    kinds |= {"QNT": "quantisation", "MTP": "mtp", "CNT": "counts", "VAL": "values"}
    for module in catalogue():
        name = f"auditor.rules.{kinds[module.rule.id[:3]]}.{module.rule.slug.replace('-', '_')}"
        assert module.check.__module__ == name
