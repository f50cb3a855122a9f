"""``data_parallel()``: train on several devices of this process, by `tf.distribute`."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from unrolled.backends import tensorflow as backend  # first: it keeps the import quiet

# isort: split
import keras
import tensorflow as tf

from unrolled.backends.variables.tensorflow import children
from unrolled.errors import SettingError
from unrolled.processes.place import place_from_environment
from unrolled.training import data_parallel as shared
from unrolled.training.data_parallel import batch_axes, each_array, is_sum
from unrolled.training.tracing import TAP, Traced


def data_parallel(devices: int = 1, about: Mapping[str, Any] = {}) -> shared.DataParallel:
    """Share minibatches between devices of this process.

    On a machine without a GPU a device is a part of the processor; with GPUs it is one of them.
    (It never ran on a GPU.) The devices draw random numbers one after the other, so a model with
    dropout drops other units than on one device.

    Args:
        devices: how many.
        about: of no use here, as there are no other processes.

    Returns:
        What ``Trainer(data_parallel=...)`` takes.

    Raises:
        SettingError: there are several processes, or fewer devices; or TensorFlow has computed
            something before.

    Example:
        >>> from unrolled import tensorflow
        >>> parallel = tensorflow.data_parallel()  # data_parallel(devices=2) takes two
        >>> trainer = tensorflow.Trainer(max_epochs=1, data_parallel=parallel)
        >>> parallel.parts
        1

    Reference: TensorFlow, Distributed training with TensorFlow, `tf.distribute.MirroredStrategy`.
    """
    shared.check_devices(devices)
    if place_from_environment() is not None:
        why = "Keras 3 does not work with MultiWorkerMirroredStrategy (issue 20585 of Keras)"
        shared.refuse_processes("TensorFlow", why)
    if devices == 1:
        return shared.DataParallel()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        _divide_processor(devices)
    processors = [device.name for device in tf.config.list_logical_devices("CPU")]
    found = backend.devices(devices) if gpus else processors[:devices]
    if len(found) < devices:
        raise SettingError(
            f"devices is {devices}, and TensorFlow has {len(found)} here; take devices={len(found)}"
        )
    return DataParallel(found)


def _divide_processor(devices: int) -> None:
    """Let the processor be so many devices.

    Raises:
        SettingError: TensorFlow has computed something before.
    """
    (processor,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
    try:
        tf.config.set_logical_device_configuration(processor, parts)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < devices:
            raise SettingError(
                "TensorFlow has computed something before data_parallel() was called, and its "
                "devices are fixed since then: call it first, before models and data are made"
            ) from None


class DataParallel(shared.DataParallel):
    """Devices of this process, each with a part of each minibatch.

    Variables need not be made in the strategy's scope, which would make copies of them on all
    devices: here the weights move once, after the gradients are added up, and the devices read
    them where they are. That is as much traffic as adding the gradients up everywhere.
    """

    def __init__(self, devices: list[str]) -> None:
        super().__init__(parts=len(devices))
        self.strategy = tf.distribute.MirroredStrategy(devices)

    def sharing(self, trainer: Any, differentiate: Callable[..., Any]) -> Callable[..., Any]:
        """``differentiate`` with each device computing a part of the minibatch.

        One device computes a minibatch that cannot be divided.
        """
        model = trainer.model
        for layer in _layers(model):
            if isinstance(layer, keras.layers.BatchNormalization):
                raise shared.batch_statistics(layer)

        def whole(leaves: Any, batch: Any, state: Any) -> Any:
            if len(batch[-1]) % self.parts:
                return differentiate(leaves, batch, state)

            def part() -> Any:
                rank = tf.distribute.get_replica_context().replica_id_in_sync_group
                own = partial(self._part, rank)
                return differentiate(
                    {n: own(x, 1) if n.startswith(TAP) else x for n, x in leaves.items()},
                    tuple(own(x, 0) for x in batch),
                    state if state is None else each_array(own, state, batch_axes(model)),
                )

            return self._together(self.strategy.run(part), model)

        return whole

    def _part(self, rank: int, x: Any, axis: int) -> Any:
        """The part of an array that a device computes with."""
        size = x.shape[axis] // self.parts
        return x[(slice(None),) * axis + (slice(rank * size, (rank + 1) * size),)]

    def _together(self, found: Any, model: Any) -> Any:
        """Combine the devices' losses, states and gradients into those of the whole minibatch."""
        (loss, auxiliary), gradients = found
        share = 1 if is_sum(model) else 1 / self.parts

        def total(x: Any) -> Any:
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, x, axis=None) * share

        def joined(x: Any, axis: int) -> Any:
            return tf.concat(self.strategy.experimental_local_results(x), axis)

        def whole(state: Any) -> Any:
            if self.strategy.experimental_local_results(state)[0] is None:
                return None
            return each_array(joined, state, batch_axes(model))

        if isinstance(auxiliary, Traced):
            seen = {
                n: (joined(first, 0), joined(after, 1))
                for n, (first, after) in auxiliary.seen.items()
            }
            auxiliary = Traced(whole(auxiliary.auxiliary), seen)
        else:
            auxiliary = whole(auxiliary)
        return (total(loss), auxiliary), {
            n: joined(g, 1) * share if n.startswith(TAP) else total(g) for n, g in gradients.items()
        }


def _layers(node: Any, above: tuple[Any, ...] = ()) -> Iterator[Any]:
    """A model and everything that it is made of."""
    yield node
    for _, child in children(node, frozen=True):
        if not any(child is other for other in above):  # a way back up
            yield from _layers(child, (*above, node))
