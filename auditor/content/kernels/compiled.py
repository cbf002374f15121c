"""How kernels are compiled: to code that holds no lock, and without fast mathematics, so floats round as IEEE says."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """The function as numba compiles it where it is called; what is kept of it is `native`'s to keep."""
    return cast(Function, numba.njit(nogil=True)(function))
