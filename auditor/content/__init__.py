"""The only readers of tensor bytes: what to read, the kernels that compute on it, and the probes that come of it.

Nothing here is imported before an audit reads content; numpy, numba and xxhash are the extra `content`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal, NamedTuple

from auditor.errors import UsageError
from auditor.text import quoted

SAMPLE_BYTES = 2 << 30
MOST_PARTS = 10_000
# Of a GPU for each unit on a cluster: a core copies a fraction of what the bus to a GPU carries, so eight feed one.
GPU_SHARE = 1 / 8
# What `engine` may be.
_HOST = r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,64}\])"
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
ENGINES = rf"^(?:local|ray(?:://{_HOST}:{_PORT})?)$"
NEEDED = ("numpy", "numba", "llvmlite", "xxhash")

# Bytes of tensors read, and how many are to be read.
Progress = Callable[[int, int], None]
# Why bytes are not read yet, where that takes long enough to wonder.
Preparing = Callable[[str], None]


class Standing(NamedTuple):
    """How far a reading is: `done` of `total` bytes, and how many of its `units` of work are left.

    `workers` read at once, on so many `nodes`; `retries` counts units that were begun again, elsewhere or anew.
    """

    done: int
    total: int
    units: int
    units_left: int
    workers: int
    nodes: int
    retries: int


def _warn(what: str) -> None:
    """Say it as the program that this is part of says such things; by itself Python writes it to standard error."""
    import logging

    logging.getLogger("auditor").warning(what)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How content is read: everything that an audit at depth sample or full lets its user choose.

    `seed` None draws one, `jobs` None takes every core, `resume` names a place for what is finished, `resume_shared`
    says that others may write to it as well and are trusted with the verdict. `part` (I, N) reads the Ith of N shares
    of the shards into that place, and nothing else. `engine` is where it is read: `local`, or `ray`, or ray://HOST:PORT.
    `gpu_share` is how much of a GPU a unit takes on a cluster's nodes that have one.
    `standing` is told what `progress` is, and by whom it is read; `warning` what to think of beside the report.
    """

    depth: Literal["sample", "full"]
    seed: int | None = None
    sample_bytes: int = SAMPLE_BYTES
    device: Literal["auto", "cpu", "cuda"] = "auto"
    jobs: int | None = None
    resume: str | None = None
    resume_shared: bool = False
    digests: bool = True
    part: tuple[int, int] | None = None
    engine: str = "local"
    gpu_share: float = GPU_SHARE
    progress: Progress | None = field(default=None, compare=False)
    preparing: Preparing | None = field(default=None, compare=False)
    standing: Callable[[Standing], None] | None = field(default=None, compare=False)
    warning: Callable[[str], None] = field(default=_warn, compare=False)

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be."""
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"jobs {self.jobs}: needs at least one thread")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise UsageError(f"seed {self.seed}: needs a whole number from 0 to 2^63 - 1")
        if self.resume_shared and self.resume is None:
            raise UsageError("--resume-shared is for --resume, which names the folder")
        if self.part is not None and not 1 <= self.part[0] <= self.part[1] <= MOST_PARTS:
            raise UsageError(
                f"part {self.part[0]}/{self.part[1]}: needs I/N with I from 1 to N, N at most {MOST_PARTS}"
            )
        if self.part is not None and (self.resume is None or self.depth != "full"):
            raise UsageError("a part is of a reading at depth full, into a place that --resume names")
        if not re.fullmatch(ENGINES, self.engine):
            raise UsageError(f"engine {quoted(self.engine)}: choose local, ray or ray://HOST:PORT")
        if not (0 < self.gpu_share <= 1):
            raise UsageError(f"gpu_share {self.gpu_share}: needs more than 0, up to 1")
        if self.sample_bytes < 1:
            raise UsageError(f"sample_bytes {self.sample_bytes}: needs at least 1 byte")


def check_extra(depth: str) -> None:
    """Raise UsageError, in one line, where reading content lacks a library."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise UsageError(f"--depth {depth} needs {', '.join(absent)}: pip install 'checkpoint-auditor[content]'")


def check_numba(depth: str) -> None:
    """Raise UsageError, in one line, where numba does not work here. It takes long to import."""
    try:
        import numba  # noqa: F401  # it refuses versions of numpy and of Python that it does not know
    except Exception as error:  # an edge: it is its own program
        raise unusable(error, f"--depth {depth}: numba") from error


_ROOM = 64 << 20  # bytes, less than kernels take to be compiled


def unusable(error: Exception, numba: str) -> Exception:
    """What to raise where `numba` failed: it is of no use here, unless it is this process that lacks memory."""
    # A SystemError is what C code without memory leaves behind that says nothing.
    if isinstance(error, MemoryError | SystemError) or "Cannot allocate memory" in str(error):
        return MemoryError(str(error))
    try:
        bytes(_ROOM)
    except MemoryError:  # without memory it may also say that a frame is not callable
        return MemoryError(str(error))
    reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
    return UsageError(f"{numba} makes no kernels that can be used: {reason}")
