"""Values by name go through a file unchanged, with their order and their ties."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from unrolled.parameters import listed, read, to_bytes, untied

NAMES = st.text("abW_.0123", min_size=1, max_size=8)
VALUES = st.one_of(
    arrays(np.float32, array_shapes(max_dims=3, max_side=3)),
    arrays(np.float64, array_shapes(max_dims=2, max_side=3)),
)


@given(
    names=st.lists(NAMES, unique=True, max_size=6),
    pool=st.lists(VALUES, min_size=1),
    data=st.data(),
)
def test_values_order_and_ties_come_back(names, pool, data):
    # drawn from a small pool, so that names often share one array
    values = {name: data.draw(st.sampled_from(pool)) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        path.write_bytes(to_bytes(values))
        assert to_bytes(values) == path.read_bytes()
        kept, tied = read(path)
    assert len(kept) == len({id(value) for value in values.values()})
    assert list(kept) == [p.name for p in listed(values)]
    found = untied(kept, tied)
    assert found.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
        shares = {other for other in names if values[other] is value}
        assert {other for other in names if found[other] is found[name]} == shares
