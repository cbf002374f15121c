"""The only readers of tensor bytes: what to read, the kernels that compute on it, and the probes that come of it.

Nothing here is imported before an audit reads content; numpy, numba and xxhash are the extra `content`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

from auditor.errors import UsageError

SAMPLE_BYTES = 2 << 30
NEEDED = ("numpy", "numba", "xxhash")

# Bytes of tensors read, and how many are to be read.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How content is read: everything that an audit at depth sample or full lets its user choose.

    `seed` None draws one, `jobs` None takes every core, `resume` names a folder for what is finished.
    """

    depth: Literal["sample", "full"]
    seed: int | None = None
    sample_bytes: int = SAMPLE_BYTES
    device: Literal["auto", "cpu", "cuda"] = "auto"
    jobs: int | None = None
    resume: str | None = None
    digests: bool = True
    progress: Progress | None = field(default=None, compare=False)


def check_extra(depth: str) -> None:
    """Raise UsageError, one line with the mend, where reading content lacks a library."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise UsageError(f"--depth {depth} needs {', '.join(absent)}: pip install 'checkpoint-auditor[content]'")
