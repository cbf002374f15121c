"""Where an output may go: never in the place of a checkpoint's file, nor of a file that the command itself reads."""

import os
import re
import stat
from collections.abc import Iterable, Iterator

from auditor.errors import UsageError

_INDEX = "model.safetensors.index.json"
_INDEX_BYTES = 128 << 20
_ENTRIES = 200_000  # of a checkpoint's folder that are looked at for links to an output

# Names that loaders read where they find them; whatever is written there would change what is loaded.
_LOADED = re.compile(
    r".*\.(safetensors|bin|pth?|ckpt|gguf|h5|msgpack|npz|onnx|py|model|jinja|index\.json)"
    r"|(.*_)?config\.json|.*token.*|.*vocab.*|merges\.txt|params\.json|chat_template.*",
    re.IGNORECASE | re.DOTALL,
)
# How what we write begins: what we wrote beside a checkpoint we may write again. A model card that speaks of an auditor
# begins otherwise.
_OURS = re.compile(
    rb'\{\s*"schema_version": "1",\s*"tool": \{\s*"name": "auditor",'
    rb'|\{\s*"source":.*"conventions":'
    rb'|\{"\$schema":.{1,200}"tool":\{"driver":\{"name":"auditor",'
    rb'|<!doctype html>.{1,60}<meta charset="utf-8">\s*<meta name="generator" content="auditor">'
    rb'|<\?xml .{1,60}<testsuites><testsuite id="0" name="auditor rules"'
    rb"|# [^ ]+ auditor: (passed|failed|incomplete) |pattern,dtype,|component,from_config|rule,slug,",
    re.DOTALL,
)
_BEGINNING = 4096


def check_places(outputs: Iterable[tuple[str, str]], *, checkpoints: Iterable[str], read: Iterable[str]) -> None:
    """Refuse an output, by option and path, in the place of a file of a checkpoint or of a file that is `read`.

    Links are followed, those of the path as those of the checkpoint; hard links are known by device and inode.
    """
    folders = [os.path.realpath(each) for each in checkpoints]
    inputs = {identity: each for each in read if (identity := _identity(each)) is not None}
    for option, path in outputs:
        where = f"--{option} {path}"
        identity = _identity(path)
        if identity in inputs:
            raise UsageError(f"{where}: is {inputs[identity]}, which is read: give another file")
        for folder in folders:
            if any(_taken(place, folder) for place in _candidates(path)) or (
                identity is not None and _is_linked(identity, folder, path)
            ):
                raise UsageError(f"{where}: is a file of the checkpoint, which is never written to: give another name")


def checkpoints_of(outputs: Iterable[tuple[str, str]]) -> set[str]:
    """The folders of outputs that hold shards or an index: a command that reads a report was told of no checkpoint."""
    folders = {os.path.dirname(place) for _, path in outputs for place in _candidates(path)}
    return {each for each in folders if is_checkpoint(each, alone=False)}


def is_checkpoint(folder: str, *, alone: bool = True) -> bool:
    """Whether a folder holds what makes a checkpoint; `alone`: a config.json without anything beside it does."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    made = ("config.json", _INDEX) if alone else (_INDEX,)
    return any(name in made or name.lower().endswith(".safetensors") for name in names)


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a regular file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _candidates(path: str) -> Iterator[str]:
    """The file's own place, and where it leads if it is a link."""
    yield os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
    yield os.path.realpath(path)


def _taken(place: str, folder: str) -> bool:
    """Whether a place within the folder is one of the checkpoint's files, or would be one."""
    if not place.startswith(os.path.join(folder, "")):
        return False
    if _LOADED.fullmatch(os.path.basename(place)):
        return True
    if os.path.lexists(place):
        return os.path.islink(place) or (os.path.isfile(place) and not _ours(place))
    return _is_listed(os.path.basename(place), folder)


def _ours(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_nlink == 1 and _OURS.match(file.read(_BEGINNING)) is not None
    except OSError:
        return False


def _is_listed(name: str, folder: str) -> bool:
    """Whether the index names a file so; it is absent, else the question would not come up."""
    try:
        with open(os.path.join(folder, _INDEX), "rb") as file:
            text = file.read(_INDEX_BYTES)
    except OSError:
        return False
    return re.search(rb'["/\\]' + re.escape(os.fsencode(name)) + b'"', text) is not None


def _is_linked(identity: tuple[int, int], folder: str, path: str) -> bool:
    """Whether a file outside of the folder is one within, by a hard link or by what a link there leads to."""
    if os.path.realpath(path).startswith(os.path.join(folder, "")):
        return False
    waiting, left = [folder], _ENTRIES
    while waiting and left > 0:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    left -= 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif _identity(entry.path) == identity:
                        return True
        except OSError:
            continue  # what cannot be listed is told where it is read
    return False
