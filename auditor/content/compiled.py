"""How kernels are compiled: to machine code, cached beside the source (or in the user's cache), without the lock."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function as numba compiles it when it is first called; no fast mathematics, so floats round as IEEE says."""
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # nowhere to keep a cache: compiled anew each time, which NUMBA_CACHE_DIR mends
        return cast(Function, numba.njit(nogil=True)(function))
