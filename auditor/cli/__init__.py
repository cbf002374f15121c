"""The command line: one file for each command, and exit codes. Nothing heavy is imported at the top."""

import os
import sys

# What can fail is imported where the command answers for it: an exception at import is exit 1, which means failed.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

USAGE = 2
INCOMPLETE = 3


def main(arguments: list[str] | None = None, *, alone: bool = False) -> int:
    """Run one command and return its exit code. No exception leaves it: an unexpected one is exit 3.

    `alone`: this process is the command's own, which may be set up for the libraries that a command imports.
    """
    try:
        return _main(sys.argv[1:] if arguments is None else arguments, alone=alone)
    except KeyboardInterrupt:
        said = "cancelled"
    except BrokenPipeError:
        return INCOMPLETE
    except Exception as error:  # the edge: whatever it is, it means that nothing was decided
        said = _report_unexpected(error)
    # Only here is gone what the exception held: without memory there would be none to say so.
    return _complain(said, INCOMPLETE)


def _main(arguments: list[str], *, alone: bool) -> int:
    from auditor.cli.arguments import module_of, parser_for
    from auditor.errors import AuditorError, UsageError

    parser = parser_for(arguments)
    try:
        options = parser.parse_args(arguments)
        if options.version:
            from auditor.cli.streams import write_out
            from auditor.version import __version__

            write_out(f"auditor {__version__}\n")
            return 0
        if options.command is None:
            parser.print_help()
            return USAGE
        numeric = getattr(options, "depth", "headers") != "headers" or getattr(options, "values", False)
        if alone and (numeric or getattr(options, "csv", None) is not None):
            from auditor.startup import before_numpy

            before_numpy()
        code: int = module_of(options.command).run(options)
        return code
    except SystemExit as stop:
        return int(stop.code or 0)
    except UsageError as error:
        return _complain(str(error), USAGE)
    except AuditorError as error:
        return _complain(str(error), INCOMPLETE)


def _complain(message: str, code: int) -> int:
    from auditor.cli.streams import complain

    return complain(message, code)


def _report_unexpected(error: Exception) -> str:
    from auditor.startup import exhaustion

    if os.environ.get("AUDITOR_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    lack = exhaustion(error)
    if lack is not None:
        return f"{lack}: nothing was decided"
    message = f"{type(error).__name__}: {error}"
    return f"unexpected error, nothing was decided: {message} (AUDITOR_TRACEBACK=1 shows where)"


def entry() -> "NoReturn":
    """The console script: it ends with a code of the contract, whatever this machine refuses.

    It leaves without freeing memory piece by piece, which the end of the process does.
    """
    code, said = INCOMPLETE, b"auditor: out of memory: nothing was decided\n"
    try:
        try:
            from auditor import startup

            startup.end_in_order_when_told()
            startup.hold_streams()
            startup.print_in_any_encoding()
            startup.let_no_library_decide(limited=True)
            startup.keep_freed_memory()
            startup.without_collector()
            startup.without_plugins()
            code = main(alone=True)
            said = b""
        except KeyboardInterrupt:
            said = b"auditor: cancelled\n"
        except Exception as error:  # the edge of the process: `main` itself could not be had, or could not say why
            lack = isinstance(error, (MemoryError, SystemError))
            reason = "out of memory" if lack else f"{type(error).__name__}: {error}"
            said = f"auditor: {ascii(reason)[1:-1]}: nothing was decided\n".encode()
        if said:
            os.write(2, said)
    except BaseException:  # noqa: S110  # a last interruption, or nobody to tell
        pass
    finally:
        os._exit(code)
