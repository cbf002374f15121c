"""Audits DeepSeek-V3-layout checkpoints: whether one is what its config.json says it is.

import auditor

report = auditor.audit("path/to/checkpoint")
print(report.verdict, len(report.findings))
"""

# Nothing is imported here: it would come before the command's first line, where nobody answers for what fails.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from auditor.errors import AuditorError, SourceError, UsageError
    from auditor.run import audit
    from auditor.version import __version__

__all__ = ["AuditorError", "SourceError", "UsageError", "__version__", "audit"]


def __getattr__(name: str) -> "Any":
    """Import the engine when it is first asked for: `auditor --help` must not pay for it."""
    if name == "audit":
        from auditor.run import audit

        return audit
    if name == "__version__":
        from auditor.version import __version__

        return __version__
    if name in ("AuditorError", "SourceError", "UsageError"):
        from auditor import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")
