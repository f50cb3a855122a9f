import math
import re
import subprocess
import sys

import numpy as np
import pytest

from installed import FRAMEWORK, INSTALLED
from unrolled import doctor, kernelcheck, native, selfcheck
from unrolled.frameworks import FRAMEWORKS

native_only = pytest.mark.skipif(not native.available()[0], reason="no native kernels")


def test_the_doctor_loads_no_framework():
    code = (
        "import sys; sys.argv = ['unrolled', 'doctor']\n"
        "from unrolled.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'jax', 'tensorflow', 'mxnet') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert not native.available()[0] or "\nkernels     136 cases" in done.stdout
    assert "WRONG" not in done.stdout
    assert "CRASH" not in done.stdout


@native_only
@pytest.mark.parametrize("death", ["SIGSEGV", "SIGKILL"])
def test_kernels_that_kill_their_process_are_told_of(unrolled, monkeypatch, tmp_path, death):
    (tmp_path / "dies.py").write_text(
        "import os, signal, sys\n"
        "print('lstm, batch size 64', file=sys.stderr)\n"
        f"os.kill(os.getpid(), signal.{death})"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    apart = doctor.apart
    monkeypatch.setattr(doctor, "apart", lambda module: apart("dies"))
    report = unrolled("doctor")
    assert report.code == 0
    assert f"CRASH: the process that checked them was ended by {death} after: lstm" in report.out
    assert "UNROLLED_NATIVE=off" in report.out


def test_a_check_that_fails_or_hangs_is_told_of(monkeypatch, tmp_path):
    (tmp_path / "fails.py").write_text("print('begun', flush=True); raise OSError('no memory')")
    (tmp_path / "hangs.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines, end = doctor.apart("fails")
    assert (lines, end) == (["begun"], "ended with exit code 1 after: OSError: no memory")
    monkeypatch.setattr(doctor, "LONGEST_CHECK_S", 0.5)
    assert doctor.apart("hangs")[1] == "has not ended after 0.5 seconds"


@native_only
def test_kernels_that_compute_something_else_are_called_wrong(monkeypatch):
    monkeypatch.setattr(kernelcheck, "BATCHES", (5, 7))
    cases, *others = kernelcheck.check()
    assert (cases.partition(",")[0], others) == ("16 cases", [])
    backward = native.backward

    def spoiled(*arguments, **named):
        backward(*arguments, **named)
        if len(named["dH"][0]) == 5:
            named["dH"][0, 4, -1] = np.nan

    monkeypatch.setattr(native, "backward", spoiled)
    *_, verdict = kernelcheck.check()
    assert verdict.startswith("WRONG")
    assert "UNROLLED_NATIVE=off" in verdict


def test_the_doctor_compares_every_installed_framework_with_the_reference(unrolled, monkeypatch):
    apart, asked = doctor.apart, []

    def first_only(module, *framework):  # the others' numbers: test_golden.py
        asked.extend(framework)
        return apart(module, *framework) if framework == (FRAMEWORK,) else (["compared"], "")

    monkeypatch.setattr(doctor, "apart", first_only)
    out = unrolled("doctor", "--check").out
    (number,) = re.findall("largest difference from the reference: (.*)", out)
    assert float(number) < 1e-5
    assert asked == INSTALLED
    assert all(title in out for title in FRAMEWORKS.values())


@pytest.mark.parametrize("difference", [0.02, math.inf, math.nan])
def test_wrong_numbers_of_a_framework_are_called_wrong(monkeypatch, difference):
    monkeypatch.setattr(selfcheck, "compare", lambda framework: difference)
    assert "WRONG" in list(selfcheck.report(FRAMEWORK))[1]


def test_a_framework_that_cannot_train_ends_no_check(monkeypatch):
    def fail(framework):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(selfcheck, "compare", fail)
    assert list(selfcheck.report(FRAMEWORK))[1:] == [
        "cannot train: RuntimeError: no kernel image is available",
    ]
    monkeypatch.setattr(selfcheck, "load", fail)
    assert list(selfcheck.report(FRAMEWORK)) == [
        "installed, but does not load: RuntimeError: no kernel image is available"
    ]
