"""The host as a place of the kernel's, which Triton's interpreter runs there where no GPU is."""

from contextlib import AbstractContextManager, nullcontext

import torch

from auditor.content.cuda.place import Mark


class _Passed:
    """A point that work has passed as soon as it is begun."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


class Host:
    """The host as a place, where Triton's interpreter runs the kernel: one memory, everything done when begun."""

    name = "triton interpreter"
    device = torch.device("cpu")

    def host(self, size: int) -> torch.Tensor:
        """Plain memory."""
        return torch.empty(size, dtype=torch.uint8)

    def room(self, size: int) -> torch.Tensor:
        """Plain memory."""
        return torch.empty(size, dtype=torch.uint8)

    def copying(self, after: Mark | None) -> AbstractContextManager[None]:  # a place's signature
        """No stream."""
        return nullcontext()

    def computing(self, after: Mark) -> AbstractContextManager[None]:  # a place's signature
        """No stream."""
        return nullcontext()

    def mark(self) -> Mark:
        """A point that is passed already."""
        return _Passed()

    def close(self) -> None:
        """Nothing to give back."""
