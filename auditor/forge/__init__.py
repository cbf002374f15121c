"""Writes synthetic checkpoints, sound or with exactly one named defect, to test an auditor against."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from auditor.errors import AuditorError, UsageError
from auditor.forge.breaks import Break, breaks
from auditor.forge.plan import LIKES, Plan, plan
from auditor.forge.write import Progress, Strips, write
from auditor.text import plural, shown, size

__all__ = ["LIKES", "Break", "Forged", "breaks", "forge", "planned"]


@dataclass(frozen=True, kw_only=True)
class Forged:
    """What was written. `apparent_bytes` are file lengths, whatever the files take on disk."""

    directory: Path
    files: tuple[Path, ...]
    tensors: int
    shards: int
    apparent_bytes: int
    broken: Break | None

    def summary(self) -> str:
        """One line for a person."""
        what = f"{plural(self.tensors, 'tensor')} in {plural(self.shards, 'shard')}, {size(self.apparent_bytes)}"
        if self.broken is None:
            return f"{shown(str(self.directory))}: {what}, sound"
        expected = (
            f"{self.broken.rule}, exit {self.broken.exit_code}" if self.broken.rule else f"exit {self.broken.exit_code}"
        )
        return f"{shown(str(self.directory))}: {what}, broken: {self.broken.title} ({expected})"


def forge(
    directory: Path,
    *,
    like: str = "tiny",
    sparse: bool = False,
    break_name: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Forged:
    """Write a checkpoint like one of LIKES into a new or empty folder.

    `sparse` leaves holes for tensor data (headers, index and config.json are real). `break_name` is one of
    `breaks()`; one that shows at depth full needs real content. `seed` decides the values; the same seed gives the
    same bytes. `progress(done, total)` is called per shard. Raises UsageError for what cannot be asked, AuditorError
    where writing fails.
    """
    broken = _find_break(break_name)
    if sparse and broken is not None and broken.depth == "full":
        raise UsageError(f"--break {broken.name}: is a defect of values, which --sparse does not write: drop --sparse")
    chosen = plan_of(like, broken)
    strips = None if sparse else _content(chosen, seed)
    _prepare(directory)
    try:
        write(chosen, directory, strips=strips, progress=progress)
    except OSError as error:
        raise AuditorError(f"{directory}: could not be written: {error.strerror or error}", code="not_saved") from error
    files = tuple(sorted(path for path in directory.iterdir()))
    return Forged(
        directory=directory,
        files=files,
        tensors=sum(len(shard.tensors) for shard in chosen.shards),
        shards=len(chosen.shards),
        apparent_bytes=sum(path.stat().st_size for path in files if path.is_file()),
        broken=broken,
    )


def plan_of(like: str, broken: Break | None = None) -> Plan:
    """The plan of a checkpoint, with a break applied."""
    if like not in LIKES:
        raise UsageError(f"--like {like}: no such layout; choose {', '.join(LIKES)}")
    chosen = plan(like)
    if broken is not None:
        sound = chosen.copy()
        try:
            broken.apply(chosen)
            changed = chosen != sound or repr(chosen.config) != repr(sound.config)  # True equals 1
        except (LookupError, StopIteration):  # what it looks for is not there
            changed = False
        if not changed:
            raise UsageError(f"--break {broken.name}: --like {like} has nothing of that kind; choose another")
    return chosen


def _find_break(name: str | None) -> Break | None:
    if name is None:
        return None
    known = breaks()
    if name not in known:
        close = get_close_matches(name, known, n=3, cutoff=0.5)
        mend = f"did you mean {' or '.join(close)}?" if close else "--list-breaks names them all"
        raise UsageError(f"--break {name}: no such break; {mend}")
    return known[name]


def _content(chosen: Plan, seed: int) -> Strips:
    if odd := next((each.name for each in chosen.tensors() if each.values == "further"), None):
        raise UsageError(f"real content is made of FP8 blocks alone, and {odd} is of another format: add --sparse")
    try:
        from auditor.forge.content import Content
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "numpy":
            raise
        raise UsageError(
            "real content needs numpy: pip install 'checkpoint-auditor[forge]', or add --sparse"
        ) from error
    return Content(chosen, seed).strips


def _prepare(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory}: is a file; name a new or empty folder")
    if directory.is_dir() and any(directory.iterdir()):
        raise UsageError(f"{directory}: is not empty; name a new or empty folder")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be made: {error.strerror}") from error
