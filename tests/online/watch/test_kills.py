import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


# Every single operation was tried by hand (first 0, step 1); this step keeps the suite fast and meets each kind.
def test_a_kill_at_any_operation_loses_nothing_and_publishes_nothing_twice(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.online.watch.kills", str(tmp_path), "1", "5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
