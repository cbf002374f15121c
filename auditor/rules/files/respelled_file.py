"""Files are called as the index, or every loader, calls them: in case, normalisation, white space, folder, suffix."""

from collections.abc import Iterator, Mapping

from auditor.inventory.facts import Inventory
from auditor.sources.entry import Entry
from auditor.text import shown
from auditor_schemas.rule import AnyMissing, Failure, File, Rule, Scope, Severity, Subject

RULE = Rule(
    id="FIL110",
    slug="respelled-file",
    title="A file is there under another spelling of its name",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="files",
)
_CONFIG, _INDEX, _SUFFIX = "config.json", "model.safetensors.index.json", ".safetensors"


def check(inventory: Inventory, listing: Mapping[str, Entry]) -> Iterator[Failure]:
    """One failure per name that is wanted and absent while a like one is there."""
    wanted = dict.fromkeys((_CONFIG, _INDEX, *(inventory.index.files if inventory.index is not None else ())))
    absent = [path for path in wanted if path not in listing or listing[path].kind == "absent"]
    if not absent:
        return
    spellings: dict[str, str] = {}
    for path, entry in listing.items():
        if entry.kind == "file" and path not in wanted:
            spellings.setdefault(_fold(path), path)
    meant: dict[str, str] = {}
    for path in absent:
        there = spellings.get(_fold(path))
        if there is None and path in listing:  # else its spelling is no path of a checkpoint, which IDX104 tells
            there = spellings.get(_fold(path.rpartition("/")[2]))
        if there is None or (there in meant and meant[there] != path):
            continue
        meant[there] = path
        names = inventory.index.names_in(path) if inventory.index is not None else ()
        takes: list[Subject] = [File(path), File(there), *names]
        if path == _INDEX:
            takes.append(AnyMissing())
        difference = _difference(path, there)
        yield RULE.failure(
            f"is there as '{shown(there)}', which differs in {difference}",
            file=path,
            expected=path,
            actual=there,
            tensors=names,
            takes=takes,
            fold=difference,
        )


def _fold(path: str) -> str:
    return _compose(path).casefold().strip().removesuffix(_SUFFIX)


def _compose(path: str) -> str:
    if path.isascii():
        return path
    from unicodedata import normalize  # plain names, which nearly all are, do without

    return normalize("NFC", path)


def _difference(wanted: str, there: str) -> str:
    if "/" in wanted and "/" not in there:
        return "its folder"
    if wanted.strip() == there.strip():
        return "white space"
    if wanted.endswith(_SUFFIX) != there.endswith(_SUFFIX) and wanted.casefold() != there.casefold():
        return "its suffix"
    return "Unicode normalisation" if _compose(wanted) == _compose(there) else "case"
