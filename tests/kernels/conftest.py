"""The instruction sets of this processor, each for all tests of a file that asks for them."""

from collections.abc import Iterator

import pytest

from unrolled.kernels import native


@pytest.fixture(params=native.describe().get("choices", ["off"]), scope="module")
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using(request.param):
        yield request.param
