"""Whether one checkpoint is another one converted: tensors paired, values compared in one pass over both, judged."""

from dataclasses import dataclass, field

from auditor.content import Preparing, Progress
from auditor.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """How values are compared: everything that the user chooses.

    `sample_bytes` None reads everything; `seed` None draws one for a sample. `jobs` None takes every core. `resume`
    names a folder for what is finished, `resume_shared` says that others may write to it as well. `map` is the path of
    a file of patterns.
    """

    map: str | None = None
    sample_bytes: int | None = None
    seed: int | None = None
    jobs: int | None = None
    resume: str | None = None
    resume_shared: bool = False
    progress: Progress | None = field(default=None, compare=False)
    preparing: Preparing | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be."""
        if self.seed is not None and self.sample_bytes is None:
            raise UsageError("--seed is what a sample draws from: add --sample-bytes")
        if self.resume_shared and self.resume is None:
            raise UsageError("--resume-shared is for --resume, which names the folder")
