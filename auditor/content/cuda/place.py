"""Where the kernel runs: a CUDA device with its memory and streams."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch


class Mark(Protocol):
    """A point in a stream of work."""

    def synchronize(self) -> None:
        """Wait until the work before it is done."""


class Place(Protocol):
    """Where a kernel runs: its memory, and two streams of work, for copies to it and for everything else."""

    name: str
    device: torch.device

    def host(self, size: int) -> torch.Tensor:
        """Bytes of the host's that can be copied from while the host goes on."""

    def room(self, size: int) -> torch.Tensor:
        """Bytes of the device's."""

    def copying(self, after: Mark | None) -> AbstractContextManager[None]:
        """Put copies begun within on their stream, behind a mark of the other's."""

    def computing(self, after: Mark) -> AbstractContextManager[None]:
        """Put work begun within on its stream, behind a mark of the copies'."""

    def mark(self) -> Mark:
        """The point that the current stream has reached."""

    def close(self) -> None:
        """Wait for everything, and give device memory that nobody uses back."""


class Cuda:
    """A CUDA device as a place."""

    def __init__(self, index: int) -> None:
        self.device = torch.device("cuda", index)
        self.name = torch.cuda.get_device_name(index)
        self._copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # torch
        self._work = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # torch

    def host(self, size: int) -> torch.Tensor:
        """Pinned memory."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def room(self, size: int) -> torch.Tensor:
        """Device memory, which torch's allocator ties to the stream of copies."""
        with torch.cuda.stream(self._copies):
            return torch.empty(size, dtype=torch.uint8, device=self.device)

    @contextmanager
    def copying(self, after: Mark | None) -> Iterator[None]:
        """The stream of copies."""
        with torch.cuda.stream(self._copies):
            if after is not None:
                self._copies.wait_event(after)  # type: ignore[arg-type]  # one of mark()'s
            yield

    @contextmanager
    def computing(self, after: Mark) -> Iterator[None]:
        """The stream of kernels, and of their results back to the host."""
        with torch.cuda.stream(self._work):
            self._work.wait_event(after)  # type: ignore[arg-type]  # one of mark()'s
            yield

    def mark(self) -> Mark:
        """An event; a host that waits for it sleeps, as another thread may want the core for a digest."""
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch
        event.record()
        return event

    def close(self) -> None:
        """Drain both streams and empty torch's cache of device memory; pinned memory it keeps for the next one."""
        self._copies.synchronize()
        self._work.synchronize()
        torch.cuda.empty_cache()
