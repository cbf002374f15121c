"""What the command does to its own process before anything else, so that it begins sooner."""

import gc
import os
import sys

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Text = TypeVar("Text")

OUT_OF_MEMORY = "out of memory"
_ENDED = b"auditor: a library ended the process, most often for want of memory"
_LARGE = 24 << 20  # bytes, never touched


def without_plugins() -> None:
    """Pydantic's plugins have no part in a verdict, and looking for them reads all that is installed."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def without_collector() -> None:
    """A short process makes few cycles, and its memory goes with it: collecting in between is time lost."""
    gc.disable()


def leave_to_the_end(*large: object) -> None:
    """Leave to the collector, which a short process does without, what takes long to be freed piece by piece."""
    circle: list[object] = [*large]
    circle.append(circle)


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to the largest block it has seen freed: a new page costs more than its use."""
    try:
        bytes(_LARGE)
    except MemoryError:
        pass  # there is little of it: the command may do with less


def hold_streams() -> None:
    """Let no file take the number of a standard stream that is closed: what is printed would go into that file.

    A standard output that is closed takes nothing, as before; a standard error is one that nobody reads.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest number that is free, which is this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


# Of our own marks and of common ones, what an output shows that does not know them. Others are shown as escapes.
_PLAIN = {
    "·": "-", "…": "...", "→": "->", "×": "x", "−": "-", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "≠": "!=",
    "’": "'", "\xa0": " ",
}  # fmt: skip


def print_in_any_encoding() -> None:
    """No character is a reason to print nothing: what standard output cannot encode has a plain form, or escapes."""
    import codecs

    def plainly(error: UnicodeError) -> tuple[str | bytes, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        plain = _PLAIN.get(error.object[error.start])
        return (plain, error.start + 1) if plain is not None else codecs.backslashreplace_errors(error)

    codecs.register_error("auditor.plain", plainly)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="auditor.plain")


def end_in_order_when_told() -> None:
    """SIGTERM, which a cancelled CI job gets, ends a command as Ctrl-C does, and so does the second of them.

    The first stops the work, and what was done is reported; the second stops that as well. With the third the
    process ends where it stands, so that none of them finds a moment at which nobody handles it.
    """
    import signal

    received = 0

    def interrupt(*_: object) -> None:
        nonlocal received
        received += 1
        if received > 2:
            os.write(2, b"auditor: cancelled\n")
            os._exit(3)
        raise KeyboardInterrupt

    # What is ignored stays ignored: it was meant for others.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, interrupt)


def let_no_library_decide(*, limited: bool = False) -> None:
    """Libraries that get no memory end the process as they like, some with 1, which is failed: let it be 3, and said.

    The command itself leaves by another way (`os._exit`), so whoever calls C's `exit` is a library; whoever aborts is
    one as well. `limited`: only where this process has limits on its memory, since it costs an import.
    """
    if limited:
        if not _memory_is_limited():
            return
        import logging

        logging.disable()  # hashlib, for one, logs what it gets no memory for, with a traceback
    # Where Rust has no memory for a backtrace, it waits for ever for the one that it is writing.
    os.environ["RUST_BACKTRACE"] = "0"
    import ctypes
    import signal

    try:
        kept = os.dup(2)
    except OSError:
        kept = 2  # no descriptor is left: what it is then has to do
    try:
        libc = ctypes.CDLL(None)
        # The last is called first: words to the standard error of now, by way of standard output, without memory.
        steps = ((libc._exit, 3), (libc.fflush, None), (libc.puts, _ENDED), (libc.dup, kept), (libc.close, 1))
        libc.__cxa_atexit.argtypes = (ctypes.c_void_p,) * 3
        for function, argument in steps:
            libc.__cxa_atexit(ctypes.cast(function, ctypes.c_void_p), argument, None)
        libc.signal.restype = ctypes.c_void_p
        libc.signal(int(signal.SIGABRT), ctypes.cast(libc.exit, ctypes.c_void_p))
    except (OSError, AttributeError):
        return  # not this kind of C library


def _memory_is_limited() -> bool:
    import resource

    limits = (resource.getrlimit(each)[0] for each in (resource.RLIMIT_DATA, resource.RLIMIT_AS))
    return any(each != resource.RLIM_INFINITY for each in limits)


def without_panic(make: "Callable[[], Text]") -> "Text":
    """What `make` makes by a library in Rust, which panics where it gets no memory: that is no Exception.

    Raises MemoryError instead, and what it prints of it, a traceback and a line of its own, goes nowhere.
    """
    if not _memory_is_limited():
        return make()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        return make()
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise MemoryError from None
        raise
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def before_numpy() -> None:
    """Its matrix products are small here, and its threads would spin on cores that have bytes to read."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    let_no_library_decide()


def exhaustion(error: BaseException) -> str | None:
    """What this machine had no more of, where that is what an exception means."""
    import errno

    number = error.errno if isinstance(error, OSError) else None
    text = str(error)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or "Cannot allocate memory" in text:
        return OUT_OF_MEMORY
    # What C code without memory leaves behind that says nothing.
    if isinstance(error, SystemError) and _memory_is_limited():
        return OUT_OF_MEMORY
    if number in (errno.EMFILE, errno.ENFILE):
        return "too many open files for the limits of this process"
    if number == errno.EAGAIN or "can't start new thread" in text:
        return "no more threads or processes may be started"
    return None
