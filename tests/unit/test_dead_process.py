"""A test that kills its process, or hangs, ends all tests at once and is named (`conftest.py`)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("death", "longest"), [("os.abort()", 900), ("time.sleep(600)", 1)])
def test_the_suite_ends_and_names_the_test(tmp_path, death, longest):
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "test_first.py").write_text(f"import os, time\ndef test_dies(): {death}\n")
    other = "import pytest, time\n@pytest.mark.parametrize('i', range(1000))\ndef test_goes_on(i): "
    (tmp_path / "test_other.py").write_text(f"{other}time.sleep(0.5)\n")
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-n", "2"]
    command += ["--dist", "loadfile", "--rootdir", tmp_path, "--confcutdir", tmp_path, tmp_path]
    command += ["-o", f"faulthandler_timeout={longest}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1, done.stdout
    assert "test_first.py::test_dies killed its process" in done.stdout
