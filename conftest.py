"""Which examples are tested: those of installed frameworks. And what a dead test process does."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from unrolled.frameworks import FRAMEWORKS, is_installed

# compiling takes JAX's tests most of their time: nothing is compiled twice, nor in the next run
COMPILED = (
    Path(__file__).parent / ".pytest_cache" / os.environ.get("PYTEST_XDIST_WORKER", "") / "jax"
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

if is_installed("torch") and find_spec("triton"):
    # now, as it crashes once TensorFlow is loaded; and only before can it be told to interpret
    # its kernels, which it does where there is no GPU
    import torch

    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    import triton  # noqa: F401

MISSING = [name for name in FRAMEWORKS if not is_installed(name)]

# frameworks' names are the names of files
SOURCE = Path(__file__).parent / "src/unrolled"
collect_ignore = [
    str(path)
    for name in MISSING
    for path in (SOURCE / name, *SOURCE.glob(f"*/{name}"), *SOURCE.rglob(f"{name}.py"))
]
# programs that tests run: their names end in that of their framework
collect_ignore += [
    str(path)
    for name in MISSING
    for path in (Path(__file__).parent / "tests").rglob(f"*_{name}.py")
    if not path.name.startswith("test_")
]
# no examples there; and Triton's kernels are bound to a GPU or to the interpreter when imported
collect_ignore.append("src/unrolled/kernels/triton")
if "tensorflow" in MISSING:
    collect_ignore.append("src/unrolled/bench/keras.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the examples in docstrings that import a framework which is not there."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            code = "".join(example.source for example in item.dtest.examples)
            for name in MISSING:
                if f"import {name}" in code or f'"{name}"' in code:
                    item.add_marker(pytest.mark.skip(reason=f"needs {name}"))


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    """End all tests when one has killed its process, rather than start another (pytest-xdist)."""
    pytest.exit(f"{crashitem} killed its process, see above", returncode=1)
