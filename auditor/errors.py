"""The exceptions of the auditor: each means that something could not be audited, never that it is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from auditor.startup import OUT_OF_MEMORY, exhaustion

if TYPE_CHECKING:  # `auditor --help` imports this module, and the standard library alone
    from auditor_schemas.codes import Cause, Code


class AuditorError(Exception):
    """Base of all; its text is one line for a person, its `code` the same for a program."""

    code: Cause = "crashed"

    def __init__(self, text: str, *, code: Cause | None = None) -> None:
        super().__init__(text)
        if code is not None:
            self.code = code


class UsageError(AuditorError):
    """What was asked for cannot be: wrong arguments, an invalid policy, an extra that is missing or broken (exit 2)."""

    code = "usage"


class SourceError(AuditorError):
    """Nothing auditable at the source (exit 3)."""

    code = "nothing"


class ForbiddenError(AuditorError):
    """A file that the policy forbids to read: a fault of the checkpoint, not of the reading (exit 1)."""

    code = "not_allowed"


class ReadError(AuditorError):
    """A file that should have been read was not, for another reason than its own damage (exit 3)."""

    code = "unreadable"


class OutputError(AuditorError):
    """What was asked for could not be written (exit 3)."""

    code = "not_saved"


class Unread(str):
    """A sentence that says what was not audited and why, with the code of the reason."""

    __slots__ = ("code",)
    code: Code

    def __new__(cls, sentence: str, code: Code) -> Unread:
        self = super().__new__(cls, sentence)
        self.code = code
        return self

    def __getnewargs__(self) -> tuple[str, Code]:  # type: ignore[override]  # a copy needs the code as well
        return str(self), self.code


def code_of(error: BaseException) -> Code:
    """The code of what an exception kept from being read."""
    if isinstance(error, AuditorError):
        return "crashed" if error.code in ("nothing", "usage", "invalid") else cast("Code", error.code)
    lack = exhaustion(error)
    if lack == OUT_OF_MEMORY:
        return "out_of_memory"
    return "unreadable" if lack is not None or isinstance(error, OSError) else "crashed"
