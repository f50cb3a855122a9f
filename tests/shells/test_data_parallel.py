"""What `data_parallel` gives for one process, and what it refuses."""

import pytest

from installed import INSTALLED
from unrolled.errors import SettingError
from unrolled.frameworks import load


def environment_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be the first of two."""
    where = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for name, value in (where | {"MASTER_PORT": "29500"}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("framework", INSTALLED)
def test_a_process_by_itself_has_the_whole_minibatch(framework: str) -> None:
    parallel = load(framework).data_parallel()
    assert (parallel.parts, parallel.processes, parallel.rank) == (1, 1, 0)


@pytest.mark.parametrize("framework", INSTALLED)
def test_no_device_is_refused(framework: str) -> None:
    with pytest.raises(SettingError, match="devices is 0; it must be at least 1"):
        load(framework).data_parallel(devices=0)


@pytest.mark.parametrize(
    "framework", [name for name in INSTALLED if name in ("tensorflow", "mxnet")]
)
def test_several_processes_are_refused_with_a_way_out(
    framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment_of_two(monkeypatch)
    with pytest.raises(SettingError, match=r"trains by one process.*convert RUN --to jax"):
        load(framework).data_parallel()


@pytest.mark.skipif("torch" not in INSTALLED, reason="PyTorch is not installed")
def test_several_devices_of_torch_are_processes() -> None:
    with pytest.raises(SettingError, match="--processes 3"):
        load("torch").data_parallel(devices=3)


@pytest.mark.skipif("mxnet" not in INSTALLED, reason="MXNet is not installed")
def test_several_devices_of_mxnet_are_refused() -> None:
    with pytest.raises(SettingError, match="KVStore"):
        load("mxnet").data_parallel(devices=2)


@pytest.mark.parametrize("framework", [name for name in INSTALLED if name in ("jax", "tensorflow")])
def test_devices_are_asked_for_before_anything_is_computed(framework: str) -> None:
    u = load(framework)
    u.backend.to_numpy(u.backend.xp.exp(u.backend.asarray([1.0])))
    with pytest.raises(SettingError, match="call it first, before models and data are made"):
        u.data_parallel(devices=7)


@pytest.mark.skipif("jax" not in INSTALLED, reason="JAX is not installed")
def test_jax_computes_before_it_meets_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    u = load("jax")
    u.backend.asarray([1.0])
    environment_of_two(monkeypatch)
    with pytest.raises(SettingError, match="call it first"):  # at once: there is no other one
        u.data_parallel(devices=2)


@pytest.mark.skipif("tensorflow" not in INSTALLED, reason="TensorFlow is not installed")
def test_a_layer_of_tensorflow_that_measures_its_minibatch_is_refused() -> None:
    import keras

    from unrolled.tensorflow.data_parallel import DataParallel

    u = load("tensorflow")
    layers = [keras.Input((2,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    model = u.NativeModel(keras.Sequential(layers), keras.losses.MeanSquaredError())
    trainer = u.Trainer(1, data_parallel=DataParallel(["CPU:0"]))
    data = u.SyntheticRegressionData([2, -3.4], 4.2, seed=0)
    with pytest.raises(SettingError, match="a BatchNormalization measures its minibatch"):
        trainer.fit(model, data)
