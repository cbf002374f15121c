"""No downloader's mark lies beside a file: it may have its full size and not yet its bytes."""

import re
from collections.abc import Iterator, Mapping

from auditor.inventory.facts import Inventory
from auditor.sources.entry import Entry
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
# What aria2, huggingface_hub, curl, browsers, torrent and Thunder clients, the AWS client and gsutil call a file, or a
# note beside it, until it is whole; some hide it behind a dot, as rsync does.
_MARK = re.compile(
    r"\.?(.+?)(?:\.(?:aria2|aria2__temp|incomplete|part|partial|crdownload|download|opdownload|filepart|xltd|!qB|!ut"
    r"|[0-9a-fA-F]{8}|tmp(?:\.\w+)?)|_\.gstmp)"
)
_RSYNC = re.compile(r"\.(.+\.safetensors)\.(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{6}")


def check(inventory: Inventory, listing: Mapping[str, Entry]) -> Iterator[Failure]:
    """One failure per mark beside a shard, the index, config.json or another JSON file."""
    named = inventory.index.files if inventory.index is not None else {}
    for path in sorted(listing):
        mark = _MARK.fullmatch(path) or _RSYNC.fullmatch(path)
        file = mark[1] if mark is not None else ""
        if not (file in named or file.endswith((".safetensors", ".json"))):
            continue
        there = listing.get(file)
        whole = f"has {there.size:,} bytes" if there is not None and there.kind == "file" else "is not there"
        yield RULE.failure(
            f"is a downloader's mark: {shown(file)} {whole}, it is still being downloaded, or was given up",
            file=path,
            blames=(File(file),),
            fold=RULE.slug,
        )
