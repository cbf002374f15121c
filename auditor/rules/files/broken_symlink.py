"""Symlinks of the checkpoint lead to files; a snapshot whose blobs are gone has none of what it lists."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor.text import plural, shown
from auditor_schemas.rule import AnyMissing, Failure, File, Rule, Scope, Severity, Subject

RULE = Rule(
    id="FIL109",
    slug="broken-symlink",
    title="Files are symlinks that lead nowhere",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="files",
)
_CONFIG, _INDEX = "config.json", "model.safetensors.index.json"
_LONGEST = 160  # characters of a target: ../../blobs/ and a SHA-256 are 76


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per broken symlink, where config.json, the index or a shard is one."""
    broken = {path: entry for path, entry in inventory.entries.items() if entry.kind == "broken-link"}
    if not any(_matters(path, inventory) for path in broken):
        return
    first = min(broken, key=lambda path: (not _matters(path, inventory), path))
    there = sum(entry.kind != "absent" for entry in inventory.entries.values())
    count = f"{plural(len(broken), 'symlink')} of {plural(there, 'file')}"
    leads = f"leads nowhere: to {_shown(broken[first].target or '')}"
    if len(broken) > 1:
        leads = f"lead nowhere, the first to {_shown(broken[first].target or '')}"
    for path in [first, *sorted(broken.keys() - {first})]:
        takes: list[Subject] = [File(path)]
        names = inventory.index.names_in(path) if inventory.index is not None else ()
        if path == first and (inventory.index is None or not inventory.index.weight_map):
            takes.append(AnyMissing())  # once: what was in which of them is not known
        yield RULE.failure(
            f"{count} {leads}",
            file=path,
            expected="a file",
            actual="a broken symlink",
            tensors=names,
            takes=(*takes, *names),
            fold=RULE.slug,
        )


def _matters(path: str, inventory: Inventory) -> bool:
    named = inventory.index.files if inventory.index is not None else {}
    is_shard = path.endswith(".safetensors") and inventory.claims(path)
    return path in (_CONFIG, _INDEX) or path in named or is_shard


def _shown(target: str) -> str:
    """Where a link leads; of an absolute path the last component alone, since the others are this machine's."""
    if target.startswith("/"):
        return f"an absolute path that ends with '{shown(target.rpartition('/')[2][:_LONGEST])}'"
    return f"'{shown(target[:_LONGEST])}'"
