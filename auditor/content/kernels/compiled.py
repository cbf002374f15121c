"""How kernels are compiled: by numba, to code that holds no lock and rounds as IEEE says, kept in its own cache.

That is beside the source or, where nothing can be written there, in the user's cache folder: numba lets nobody name
another for one package alone. It notices no change in other files, so a kernel has all that it calls in its own file.
What is kept is code, so nothing is kept, nor taken, where others may write to the user's cache folder.
"""

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, TypeVar, cast

import numba

from auditor.content import Preparing, unusable
from auditor.private import doubt

Function = TypeVar("Function", bound=Callable[..., object])
Signature = tuple[Any, ...]  # numba's types of the arguments

_kernels: dict[str, list[tuple[Any, Signature]]] = {}  # by module, filled where they are defined
_one_at_a_time = Lock()


def compiled(function: Function) -> Function:
    """What kernels call; numba compiles it with them."""
    return cast(Function, _dispatcher(function, cache=False))


def reordered(function: Function) -> Function:
    """The same where sums may be added up in any order, and so by many lanes at once."""
    return cast(Function, numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})(function))


def kernel(*signatures: Signature) -> Callable[[Function], Function]:
    """A function to call with arguments of these types."""

    def decorate(function: Function) -> Function:
        dispatcher = _with_cache(function) or _dispatcher(function, cache=False)
        _kernels.setdefault(function.__module__, []).extend((dispatcher, each) for each in signatures)
        return cast(Function, dispatcher)

    return decorate


def prepare(modules: Iterable[ModuleType], preparing: Preparing | None = None) -> None:
    """Have every kernel of these loaded; where one has to be compiled, `preparing` is given the reason to wait.

    Raises UsageError, in one line, where numba cannot compile them.
    """
    with _one_at_a_time:
        for dispatcher, signature in chain.from_iterable(_kernels[module.__name__] for module in modules):
            if signature in dispatcher.overloads:
                continue
            try:
                _compile(dispatcher, signature)
            except Exception as error:  # an edge: numba and LLVM fail in ways of their own
                raise unusable(error, f"numba {numba.__version__}") from error
            if preparing is not None and dispatcher.stats.cache_misses[signature]:
                kept = dispatcher.stats.cache_path is not None
                preparing(f"compiling kernels{' once for this processor' if kept else ', with no place to keep them'}")
                preparing = None


def _compile(dispatcher: Any, signature: Signature) -> None:
    """Take a kernel from the cache, or compile it, whatever is wrong with the cache: numba raises then."""
    try:
        dispatcher.compile(signature)
    except Exception:  # as above
        if signature in dispatcher.overloads:  # it was compiled, and could not be kept
            return
        try:
            dispatcher.recompile()  # first of all forgets what is kept, which is damaged
        except OSError:
            dispatcher._cache.disable()  # what cannot be mended either; numba has no public way
        dispatcher.compile(signature)


def _dispatcher(function: Callable[..., object], *, cache: bool) -> Any:
    return numba.njit(nogil=True, error_model="numpy", cache=cache)(function)


def _with_cache(function: Callable[..., object]) -> Any:
    """A kernel with numba's cache; None where it finds no folder, or one that others may write to."""
    try:
        dispatcher = _dispatcher(function, cache=True)
        folder = Path(dispatcher.stats.cache_path)
        # Who may write beside the source may write the source.
        trusted = folder.parent == Path(__file__).parent or doubt(folder) is None
    except (RuntimeError, OSError):
        return None
    return dispatcher if trusted else None
