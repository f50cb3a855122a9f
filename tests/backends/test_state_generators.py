"""The states of NumPy's and Python's global generators."""

import copy
import random

import numpy as np
import pytest

from exact_resume import is_tree, same
from unrolled.backends.state.generators import load_python_generators, python_generators
from unrolled.errors import ParameterError


@pytest.mark.parametrize("odd", [False, True], ids=["", "a normal number is left over"])
def test_draws_follow_as_if_nothing_had_been(odd: bool) -> None:
    def draw() -> list[float]:
        return [random.gauss(0, 1), np.random.normal(), random.random(), np.random.random()]

    random.seed(1)
    np.random.seed(1)
    if odd:  # both draw normal numbers in pairs, and keep the second
        random.gauss(0, 1)
        np.random.normal()
    tree = python_generators()
    kept = copy.deepcopy(tree)
    assert is_tree(tree)
    expected = [draw() for _ in range(400)]
    assert same(tree, kept)
    random.seed(2)
    np.random.seed(2)
    load_python_generators(tree)
    assert [draw() for _ in range(400)] == expected
    assert same(tree, kept)


@pytest.mark.skipif(not hasattr(np.random, "set_bit_generator"), reason="an older NumPy")
def test_another_bit_generator_is_kept_whole_and_named_where_it_is_missing() -> None:
    before = np.random.get_bit_generator()
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        tree = python_generators()
        assert is_tree(tree)
        assert tree["numpy"]["state"]["state"] > 2**64
        expected = np.random.random()
        np.random.random()
        load_python_generators(tree)
        assert np.random.random() == expected
    finally:
        np.random.set_bit_generator(before)
    with pytest.raises(ParameterError, match="PCG64, the global one is MT19937"):
        load_python_generators(tree)
