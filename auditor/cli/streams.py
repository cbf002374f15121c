"""What is told: results on standard output, complaints on standard error, and what to say where these take nothing."""

import errno
import sys

from auditor.errors import OutputError

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from collections.abc import Callable

STANDARD_OUTPUT = "-"


def complain(message: str, code: int) -> int:
    """One line on standard error; returns the exit code."""
    from auditor.text import shown

    try:
        print(f"auditor: {shown(message)}", file=sys.stderr, flush=True)  # noqa: T201  # the one place that complains
    except OSError:
        pass  # nobody can be told, and the code says it as well
    return code


def write_out(text: str, *, only_files: bool = False) -> None:
    """Print a text; see `tell`."""
    tell(lambda: sys.stdout.write(text), only_files=only_files)


def tell(show: "Callable[[], object]", *, only_files: bool = False) -> None:
    """Print to standard output; raises OutputError where it takes nothing.

    A standard output that is closed is no fault where `only_files` were asked for.
    """
    try:
        show()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if not (only_files and error.errno == errno.EBADF):
            raise OutputError(f"cannot write {name_of(STANDARD_OUTPUT)}: {why(error)}") from error


def name_of(target: str) -> str:
    """A target as messages call it."""
    return "standard output" if target == STANDARD_OUTPUT else target


def why(error: Exception) -> str:
    """Why something could not be written."""
    from auditor.startup import exhaustion

    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return exhaustion(error) or f"{type(error).__name__}: {error}"
