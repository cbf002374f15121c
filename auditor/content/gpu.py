"""Which CUDA devices content can be read with, or in one line why none; imports torch only where a device is."""

import ctypes
from functools import cache
from importlib.util import find_spec
from typing import Literal, NamedTuple

from auditor.errors import UsageError

INSTALL = "pip install 'checkpoint-auditor[gpu]'"


class Gpus(NamedTuple):
    """The devices that workers share, by CUDA's numbers from 0; `reason` says why there are none."""

    names: tuple[str, ...] = ()
    reason: str = ""

    @property
    def name(self) -> str:
        """What a report shows: 'NVIDIA H100', '8 × NVIDIA H100', or each of them."""
        kinds = dict.fromkeys(self.names)
        return ", ".join(kind if (count := self.names.count(kind)) == 1 else f"{count} × {kind}" for kind in kinds)


def chosen(asked: Literal["auto", "cpu", "cuda"]) -> Gpus | None:
    """The devices for `--device`, None for the CPU. Raises UsageError where cuda is asked for and cannot be."""
    if asked == "cpu":
        return None
    found = available()
    if found.names:
        return found
    if asked == "cuda":
        raise UsageError(f"--device cuda: {found.reason}")
    return None


@cache
def available() -> Gpus:
    """Every CUDA device, after the kernel has proven itself on the first; quick where there is no driver."""
    reason = _driver()
    if reason:
        return Gpus(reason=reason)
    for module in ("torch", "triton"):
        if find_spec(module) is None:
            return Gpus(reason=f"{module} is not installed: {INSTALL}")
    try:
        import torch

        if not torch.cuda.is_available():
            return Gpus(reason=_unusable(torch.__version__, torch.version.cuda))
        from auditor.content.cuda.proof import prove

        prove()
        return Gpus(tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())))
    except Exception as error:  # an edge: drivers, compilers and torch fail in ways of their own, and the CPU remains
        first = str(error).strip().partition("\n")[0][:200]
        return Gpus(reason=f"the GPU cannot be used: {type(error).__name__}: {first}")


def _driver() -> str:
    """Why the driver offers no device, '' where it does; asked of the driver itself, which takes milliseconds."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no CUDA device: there is no NVIDIA driver (libcuda.so.1) here"
    count = ctypes.c_int(0)
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code != 0 or count.value == 0:
        return f"no CUDA device: the NVIDIA driver offers none (code {code})"
    return ""


def _unusable(version: str, cuda: str | None) -> str:
    if cuda is None:
        return f"torch {version} is a build without CUDA: install one with it (docs/gpu.md)"
    return f"torch {version}, built for CUDA {cuda}, finds no device that it can use (is the driver too old for it?)"
