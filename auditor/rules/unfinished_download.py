"""No downloader's mark lies beside a file: it may have its full size and not yet its bytes."""

from collections.abc import Iterator, Mapping

from auditor.entry import Entry
from auditor.facts import Inventory
from auditor.text import shown
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="FIL111",
    slug="unfinished-download",
    title="A file is still being downloaded",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="files",
)
# What aria2, huggingface_hub, curl and browsers call a file, or a note beside it, until it is whole.
_MARKS = (
    ".aria2", ".incomplete", ".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".tmp",
)  # fmt: skip


def check(inventory: Inventory, listing: Mapping[str, Entry]) -> Iterator[Failure]:
    """One failure per mark beside a shard, the index, config.json or another JSON file."""
    named = inventory.index.files if inventory.index is not None else {}
    for path in sorted(listing):
        mark = next((each for each in _MARKS if path.endswith(each)), "")
        file = path.removesuffix(mark)
        if not mark or not (file in named or file.endswith((".safetensors", ".json"))):
            continue
        there = listing.get(file)
        whole = (
            f"{file} has {there.size:,} bytes" if there is not None and there.kind == "file" else f"{file} is not there"
        )
        yield RULE.failure(
            f"is a downloader's mark, {shown(file)} {whole}: it is still being downloaded, or was given up",
            file=path,
            blames=(File(file),),
            fold=RULE.slug,
        )
