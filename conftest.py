"""Examples that need a framework are tested where it is installed."""

import pytest

from unrolled.frameworks import FRAMEWORKS, is_installed

MISSING = [name for name in FRAMEWORKS if not is_installed(name)]

ROOMS = ("backends", "kernels", "kernels/loss", "kernels/measures", "kernels/vendor", "bench")

collect_ignore = [
    f"src/unrolled/{place}"
    for name in MISSING
    for place in (name, *(f"{room}/{name}.py" for room in ROOMS))
]
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
