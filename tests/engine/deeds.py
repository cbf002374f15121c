"""What tasks do on the nodes of a cluster in the tests; importable there."""

import os
import signal
import time
from pathlib import Path


def answer(task: bytes) -> bytes:
    """The task itself, or so many bytes as it says; but one that says so kills its worker, one its worker once."""
    word, _, where = task.decode().partition(" ")
    if word == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "once" and not Path(where).exists():
        Path(where).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "bytes":
        return bytes(number % 251 for number in range(int(where)))
    if word == "raises":
        raise ValueError("as it was asked to")
    if word == "long":
        time.sleep(60)
    return task


def mark(folder: str) -> None:
    """Leave a file of this node's name."""
    import ray

    Path(folder, ray.util.get_node_ip_address()).touch()


def where(task: bytes) -> bytes:
    """What the task was to run on, and which GPUs it sees there, after a moment."""
    time.sleep(0.3)
    return f"{task.decode()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}".encode()
