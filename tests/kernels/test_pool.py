"""Memory comes back when nobody uses it any more, and not before."""

import threading

import numpy as np
import pytest

from unrolled.native import pool

SHAPE = (512, 257)  # a size that nothing else takes


def test_memory_waits_for_the_next_array_of_its_size():
    array = pool.empty(SHAPE)
    place = array.ctypes.data
    other = pool.empty(SHAPE)
    assert other.ctypes.data != place
    del array
    assert pool.empty(SHAPE).ctypes.data == place


def test_a_view_keeps_the_memory():
    array = pool.empty(SHAPE)
    view, place = array[3, ::2], array.ctypes.data
    del array
    assert pool.empty(SHAPE).ctypes.data != place
    assert view.shape == (129,)


def test_a_tensor_keeps_the_memory():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(pool.empty(SHAPE))
    part, place = tensor[1], tensor.data_ptr()
    del tensor
    other = pool.empty(SHAPE)
    assert other.ctypes.data != place
    del part
    assert pool.empty(SHAPE).ctypes.data == place


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 2), SHAPE])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_shape_and_type_are_as_asked_for(shape, dtype):
    array = pool.empty(shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.c_contiguous
    if array.nbytes >= pool.SMALLEST_BYTES:
        assert array.ctypes.data % 64 == 0


def test_what_waits_is_limited(monkeypatch):
    monkeypatch.setattr(pool, "LARGEST_POOL_BYTES", 0)
    shape = (513, 258)
    array = pool.empty(shape)
    size = array.nbytes
    del array
    assert not pool._waiting[size]


def test_threads_never_share_memory():
    places = []

    def work():
        for _ in range(50):
            arrays = [pool.empty((511, 259)) for _ in range(3)]
            places.append(len({array.ctypes.data for array in arrays}))
            for i, array in enumerate(arrays):
                array[:] = i
            assert all((array == i).all() for i, array in enumerate(arrays))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert places == [3] * 200
