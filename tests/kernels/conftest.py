"""The instruction sets of this processor, each for all tests of a file that asks for them."""

from collections.abc import Iterator

import pytest

from unrolled import native

CHOICES = native.describe().get("choices", ["off"])  # the best one comes last


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests marked ``best_set`` on all other instruction sets."""
    others = {
        item
        for item in items
        if isinstance(item, pytest.Function)
        and item.get_closest_marker("best_set")
        and item.callspec.params.get("instructions", CHOICES[-1]) != CHOICES[-1]
    }
    if others:
        config.hook.pytest_deselected(items=[*others])
        items[:] = [item for item in items if item not in others]


@pytest.fixture(params=CHOICES, scope="module")
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using(request.param):
        yield request.param
