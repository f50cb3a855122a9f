import platform
import shlex
import sys
from datetime import UTC, datetime

import numpy
import pytest

from unrolled import native
from unrolled.runs.environment import environment


def test_it_names_the_framework_and_its_threads():
    torch = pytest.importorskip("torch")
    from unrolled.backends import torch as backend

    framework = environment(backend)["framework"]
    assert framework["name"] == "torch"
    assert framework["version"] == torch.__version__
    assert framework["threads"] == torch.get_num_threads()
    assert framework["devices"][0] == "cpu"


def test_it_names_when_by_what_and_on_what_a_run_began():
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == numpy.__version__
    assert abs(datetime.now(UTC) - datetime.fromisoformat(found["began"])).total_seconds() < 60
    assert all(shlex.quote(word) in found["command"] for word in sys.argv[1:])
    assert found["processor"]
    assert found["instructions"] == native.describe().get("instructions", "no native kernels")
