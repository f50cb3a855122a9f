import platform

import numpy
import pytest

from unrolled.runs.environment import environment


def test_it_names_the_versions_that_run():
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == numpy.__version__


def test_it_names_the_framework_and_its_threads():
    torch = pytest.importorskip("torch")
    from unrolled.backends import torch as backend

    framework = environment(backend)["framework"]
    assert framework["name"] == "torch"
    assert framework["version"] == torch.__version__
    assert framework["threads"] == torch.get_num_threads()
    assert framework["devices"][0] == "cpu"
