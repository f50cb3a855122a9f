"""What is loaded when; every check runs in a process of its own."""

import subprocess
import sys

import pytest

from installed import FRAMEWORK

FRAMEWORK_PACKAGES = ("torch", "jax", "flax", "optax", "tensorflow", "keras", "mxnet", "triton")


def loaded_by(code, packages=FRAMEWORK_PACKAGES):
    """Which packages, the frameworks' unless others are named, a program has loaded at its end."""
    program = f"{code}\nimport sys; print([m for m in {packages} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import unrolled",
        "import unrolled.cli, unrolled.doctor, unrolled.frameworks",
        "import unrolled.functional.recurrent, unrolled.functional.losses",
        "import unrolled.data.text_data, unrolled.data.synthetic",
        "import unrolled.training.trainer, unrolled.models.generation",
        "import unrolled.telemetry, unrolled.watch.record_store, unrolled.telemetry.diagnose",
        "import unrolled.models.language_model, unrolled.models.linear_regression",
        "import unrolled.experiments.language_model, unrolled.experiments.linear_regression",
        "import unrolled.report.page, unrolled.report.figures, unrolled.report.notebook",
        "import unrolled.report.trackers, unrolled.runs.events",
        "import unrolled.bench.command, unrolled.bench.ours, unrolled.bench.limit",
        "import unrolled.runs.directory, unrolled.runs.progress, unrolled.d2l.chapters",
        "import unrolled.d2l, unrolled.nndl, unrolled.public_names",
        "from unrolled.experiments import run\n"
        f"try: run('language-model', ('lr=x',), '{FRAMEWORK}')\n"
        "except ValueError: pass",
    ],
)
def test_the_core_loads_no_framework(code):
    assert loaded_by(code) == "[]"


def test_a_face_loads_only_its_own_framework():
    pytest.importorskip("torch")
    assert loaded_by("from unrolled import torch") == "['torch']"


def test_help_loads_neither_numpy_nor_rich():
    code = (
        "import sys; sys.argv = ['unrolled', '--help']\n"
        "from unrolled.cli import main\n"
        "try: main()\nexcept SystemExit: pass"
    )
    assert loaded_by(code, ("numpy", "rich")) == "[]"
