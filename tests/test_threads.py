"""Threads that do not begin are an error within half a minute, whatever became of them."""

import pytest

from auditor import threads
from auditor.threads import Thread


def test_a_thread_does_its_work_and_is_waited_for() -> None:
    done: list[str] = []
    thread = Thread(lambda: done.append(thread.name), "some work")
    thread.start()
    thread.join()
    assert done == ["some work"]


def test_a_thread_that_gets_no_memory_to_begin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_BEGINS_S", 0.1)
    monkeypatch.setattr(threads._thread, "start_new_thread", lambda *_: 1)  # so the system answers in that case too
    with pytest.raises(MemoryError, match="some work: a thread did not begin"):
        Thread(lambda: None, "some work").start()
