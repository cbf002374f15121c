"""An audit for which this machine has no memory left ends with a cause of the closed list, for Python callers too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.forge import forge

# Everything is imported and warm when the limit comes, so that it is headers for which there is none.
LIMITED = """
import json, resource, sys
from auditor import AuditorError, audit
audit(sys.argv[1])
with open("/proc/self/status") as status:
    used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
limit = used + (int(sys.argv[3]) << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    said = audit(sys.argv[2]).verdict
except AuditorError as error:
    said = [error.code, str(error), error.__context__ is None]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small one, and one whose headers take more memory than there will be."""
    folder = tmp_path_factory.mktemp("checkpoints")
    forge(folder / "tiny", like="tiny", sparse=True)
    forge(folder / "v3", like="v3", sparse=True)
    return folder / "tiny", folder / "v3"


@pytest.mark.parametrize("mebibytes", [0, 1, 4, 8])
def test_memory_that_runs_out_while_headers_are_read_is_a_cause(checkpoints: tuple[Path, Path], mebibytes: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, checkpoints), str(mebibytes)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["out_of_memory", "out of memory: nothing was decided", True]
