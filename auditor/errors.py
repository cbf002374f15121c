"""The exceptions of the auditor: each means that something could not be audited, never that it is damaged."""


class AuditorError(Exception):
    """Base of all; its text is one line for a person."""


class UsageError(AuditorError):
    """What was asked for cannot be: wrong arguments, an invalid policy, an extra that is missing or broken (exit 2)."""


class SourceError(AuditorError):
    """Nothing auditable at the source (exit 3)."""


class ForbiddenError(AuditorError):
    """A file that the policy forbids to read: a fault of the checkpoint, not of the reading (exit 1)."""


class ReadError(AuditorError):
    """A file that should have been read was not, for another reason than its own damage (exit 3)."""


class OutputError(AuditorError):
    """What was asked for could not be written (exit 3)."""
