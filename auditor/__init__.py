"""Audits DeepSeek-V3-layout checkpoints: whether one is what its config.json says it is.

import auditor

report = auditor.audit("path/to/checkpoint")
print(report.verdict, len(report.findings))
"""

from typing import TYPE_CHECKING, Any

from auditor.version import __version__

if TYPE_CHECKING:
    from auditor.errors import AuditorError, SourceError, UsageError
    from auditor.run import audit

__all__ = ["AuditorError", "SourceError", "UsageError", "__version__", "audit"]


def __getattr__(name: str) -> Any:
    """Import the engine when it is first asked for: `auditor --help` must not pay for it."""
    if name == "audit":
        from auditor.run import audit

        return audit
    if name in ("AuditorError", "SourceError", "UsageError"):
        from auditor import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")
