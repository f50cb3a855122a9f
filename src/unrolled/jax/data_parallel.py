"""``data_parallel()``: train by several processes or devices, between which XLA adds gradients."""

import atexit
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from unrolled.backends import jax as backend
from unrolled.errors import SettingError
from unrolled.output import muted_stdout
from unrolled.processes.meeting import Meeting, meet
from unrolled.processes.place import place_from_environment
from unrolled.training import data_parallel as shared
from unrolled.training.surroundings import versions
from unrolled.training.tracing import TAP

AXIS = "batch"
"""The one axis of the mesh of devices, along which minibatches are divided."""

WHOLE, DIVIDED = PartitionSpec(), PartitionSpec(AXIS)

TOO_LATE = (
    "JAX has computed something before data_parallel() was called, and its devices are fixed "
    "since then: call it first, before models and data are made"
)


CANNOT_CONNECT = (
    "JAX cannot connect the processes; see that the name of each machine leads to the address "
    "under which the others reach it, as in /etc/hosts: "
)


def data_parallel(devices: int = 1, about: Mapping[str, Any] = {}) -> shared.DataParallel:
    """Share minibatches between devices of this process and, if there are any, other processes.

    ``unrolled run --processes`` sets the environment that tells of other processes. On a machine
    without a GPU a device is a part of the processor, and gradients are added by gloo. With GPUs,
    a device is one of them. (It never ran on more than one GPU.)

    The model draws other random numbers, for dropout, than one device would.

    Args:
        devices: how many of each process.
        about: what must be the same in all processes beside the versions, in nested dicts.

    Returns:
        What ``Trainer(data_parallel=...)`` takes.

    Raises:
        SettingError: the environment says nonsense, there are fewer devices, or JAX has computed
            something before.
        RunError: a process did not come, or is about something else; a port is taken.

    Example:
        >>> from unrolled import jax
        >>> parallel = jax.data_parallel()  # data_parallel(devices=4) shares minibatches by four
        >>> trainer = jax.Trainer(max_epochs=1, data_parallel=parallel)
        >>> parallel.parts, parallel.processes
        (1, 1)

    Reference: JAX, Introduction to multi-controller JAX; Manual parallelism with `shard_map`.
    """
    shared.check_devices(devices)
    place = place_from_environment()
    if place is None and devices == 1:
        return shared.DataParallel()
    if not hasattr(jax, "shard_map"):
        raise SettingError(
            f"data parallel training needs JAX 0.8 or later; this is {jax.__version__}"
        )
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        if place is not None or jax.local_device_count() < devices:
            raise SettingError(TOO_LATE) from None
    meeting = None
    if place is not None:
        meeting = meet(place, {"jax": jax.__version__, "devices": devices, **about})
        atexit.register(meeting.leave)
        _connect(meeting, devices)
    found = jax.local_devices()
    if len(found) < devices:
        raise SettingError(
            f"devices is {devices}, and JAX has {len(found)} of them here "
            f"({found[0].device_kind}); take devices={len(found)}"
        )
    parallel = DataParallel(meeting, devices)
    if meeting is not None:
        try:
            with muted_stdout():  # gloo's notice
                parallel.from_first({"": np.zeros(1)})[""].block_until_ready()  # it connects them
        except jax.errors.JaxRuntimeError as error:
            meeting.abort(CANNOT_CONNECT + str(error).splitlines()[0])  # JAX would end in pages
        # JAX's service for finding each other is done then. If it went on, it would end the
        # processes with pages of C++ when one of them dies, and wait for all of them at the end
        jax.distributed.shutdown()
        parallel.check_same({"versions": versions(backend)})  # asking for them needs the devices
    return parallel


def _connect(meeting: Meeting, devices: int) -> None:
    """Make the devices of all processes known to JAX."""
    place = meeting.place
    host = f"[{place.host}]" if ":" in place.host else place.host
    address = f"{host}:{meeting.engine_port}"
    first = place.local_rank * devices
    jax.distributed.initialize(
        address,
        place.size,
        place.rank,
        local_device_ids=list(range(first, first + devices)),  # which GPUs; CPUs ignore it
        cluster_detection_method="deactivate",
        coordinator_bind_address=address,  # else it would listen on all networks
    )


class DataParallel(shared.DataParallel):
    """Devices of one process or several, each with a part of each minibatch."""

    def __init__(self, meeting: Meeting | None, devices: int) -> None:
        processes = 1 if meeting is None else meeting.place.size
        super().__init__(meeting, parts=processes * devices)
        every = [jax.local_devices(process_index=n)[:devices] for n in range(processes)]
        self.mesh = jax.sharding.Mesh(np.array(every).reshape(-1), (AXIS,))
        self.device = NamedSharding(self.mesh, WHOLE)

    def same_model(self, model: Any) -> Any:
        parameters = backend.parameters(model)
        shapes = {name: list(array.shape) for name, array in parameters.items()}
        self.check_same({"parameters": shapes})
        return model.with_parameters(self.from_first(parameters))

    def begin(self, trainer: Any) -> None:
        def on_all_devices(leaf: Any) -> Any:
            is_local = isinstance(leaf, jax.Array) and leaf.sharding != self.device
            return backend.asarray(leaf, self.device) if is_local else leaf

        super().begin(trainer)
        trainer.optim.state = jax.tree.map(on_all_devices, trainer.optim.state)
        trainer.load_own_state(self.from_first({"key": trainer.own_state()})["key"])

    def divided(self, batch: Any) -> Any:
        return self._put(batch, DIVIDED)

    def undivided(self, batch: Any) -> Any:
        return self._put(batch, WHOLE)

    def sharing(self, trainer: Any, differentiate: Callable[..., Any]) -> Callable[..., Any]:
        """``differentiate`` with each device computing a part of the minibatch.

        XLA could divide a program for one device by itself, but where the time steps and the
        sequences become one axis, as in front of an output layer, it would gather the minibatch
        on every device. It does not know the native kernels, either. So this says what a device
        computes.

        Returns:
            The same function of the whole minibatch. Arrays of the result that have an axis of
            sequences stay divided along it; others are added up, or their means taken.
        """
        model = trainer.model
        share = 1 if shared.is_sum(model) else 1 / self.parts

        def whole(leaves: Any, batch: Any, state: Any, key: Any, step: Any) -> Any:
            arguments = leaves, batch, state, key, step
            if len(batch[-1]) % self.parts:
                return self._on_devices(differentiate, WHOLE, WHOLE)(*arguments)
            takes = self._takes(leaves, batch, state, model)
            of_part = jax.eval_shape(differentiate, *self._shapes_of_part(arguments, takes))
            gives = jax.tree.map(_divided, jax.eval_shape(differentiate, *arguments), of_part)

            def part(leaves: Any, batch: Any, state: Any, key: Any, step: Any) -> Any:
                key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))  # or all drop the same
                value, gradients = differentiate(leaves, batch, state, key, step)
                gradients = jax.tree.map(lambda g: g * share, gradients)
                value = jax.tree.map(lambda x, at: x if any(at) else x * share, value, gives[0])
                return jax.tree.map(
                    lambda x, at: x if any(at) else jax.lax.psum(x, AXIS), (value, gradients), gives
                )

            return self._on_devices(part, takes, gives)(*arguments)

        return whole

    def _takes(self, leaves: Any, batch: Any, state: Any, model: Any) -> tuple[Any, ...]:
        """How the arguments are divided; taps have their sequences along the second axis."""
        return (
            OrderedDict((n, _along(1) if n.startswith(TAP) else WHOLE) for n in leaves),
            jax.tree.map(lambda _: DIVIDED, batch),
            None if state is None else jax.tree.map(_along, shared.batch_axes(model)),
            WHOLE,
            WHOLE,
        )

    def _shapes_of_part(self, arguments: Any, takes: Any) -> Any:
        def part(x: Any, at: PartitionSpec) -> Any:
            shape = NamedSharding(self.mesh, at).shard_shape(np.shape(x))
            return jax.ShapeDtypeStruct(shape, jax.numpy.result_type(x))

        return jax.tree.map(part, arguments, takes)

    def _on_devices(self, function: Callable[..., Any], takes: Any, gives: Any) -> Any:
        # without check_vma JAX leaves it to us to add gradients
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=takes, out_specs=gives, check_vma=False
        )

    def _put(self, arrays: Any, at: PartitionSpec) -> Any:
        """Nested arrays that every process has, on the devices, each with its part."""

        def place(x: Any) -> jax.Array:
            x = np.asarray(x)
            return jax.make_array_from_callback(
                x.shape, NamedSharding(self.mesh, at), x.__getitem__
            )

        return jax.tree.map(place, arrays)

    def part_of_state(self, model: Any, state: Any) -> Any:
        """The hidden state of all sequences, on the devices, each with its part.

        Raises:
            SettingError: the devices do not divide the sequences.
        """
        if state is None:
            return None

        def put(x: Any, axis: int) -> Any:
            shared.check_divides(x.shape[axis], self.parts)
            return self._put(x, _along(axis))

        return jax.tree.map(put, state, shared.batch_axes(model))

    def from_first(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays by name as rank 0 has them, on all devices of all processes."""

        def place(x: Any) -> jax.Array:
            x = np.asarray(x)

            def of_device(index: tuple[slice, ...]) -> Any:
                return x[None] if self.rank == 0 and not index[0].start else np.zeros_like(x)[None]

            shape, at = (self.parts, *x.shape), NamedSharding(self.mesh, DIVIDED)
            return jax.make_array_from_callback(shape, at, of_device)

        def add(arrays: Any) -> Any:
            return jax.lax.psum({name: x[0] for name, x in arrays.items()}, AXIS)

        divided = {name: place(x) for name, x in arrays.items()}
        found = jax.jit(self._on_devices(add, DIVIDED, WHOLE))(divided)
        return OrderedDict((name, found[name]) for name in arrays)


def local(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Arrays that are the same on all devices as this process's alone, without a copy."""
    return OrderedDict((name, array.addressable_data(0)) for name, array in arrays.items())


def _along(axis: int) -> PartitionSpec:
    return PartitionSpec(*[None] * axis, AXIS)


def _divided(whole: Any, part: Any) -> PartitionSpec:
    """How an array is divided, by its shapes in a minibatch and in a part of it."""
    sizes = zip(whole.shape, part.shape, strict=True)
    axes = [AXIS if n != m else None for n, m in sizes]
    return PartitionSpec(*axes) if any(axes) else WHOLE
