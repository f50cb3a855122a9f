"""Array operations, gradients and optimizer steps in TensorFlow with Keras 3."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.backends.namespace import Array, Namespace, python_scan
from unrolled.backends.protocol import StateFunctions
from unrolled.backends.tied import without_ties
from unrolled.errors import SettingError, UnrolledError

NOTICES = (b"absl::InitializeLog()", b"oneDNN custom operations are on")
"""What TensorFlow writes to stderr at every import, whatever its log level."""


@contextmanager
def _without_notices() -> Iterator[None]:
    """Keep the notices off stderr, and nothing else; where logs are asked for, keep all.

    The environment variable that ends them, TF_ENABLE_ONEDNN_OPTS=0, also takes the
    faster kernels away: training steps then last nearly twice as long.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1") == "0":
        yield
        return
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # a process without stderr
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not any(notice in line for notice in NOTICES):
                    os.write(2, line)


os.environ.setdefault("KERAS_BACKEND", "tensorflow")
with _without_notices():
    import keras
    import tensorflow as tf

    from unrolled.backends.state import tensorflow as tensorflow_state
    from unrolled.backends.variables.tensorflow import children, variables

if keras.backend.backend() != "tensorflow":
    raise SettingError(
        f"Keras runs on {keras.backend.backend()} in this process; unrolled.tensorflow needs it "
        "on TensorFlow: set the environment variable KERAS_BACKEND=tensorflow"
    )

name = "tensorflow"

state: StateFunctions = tensorflow_state


def _transpose(x: Array) -> Array:
    # oneDNN has no transpose for integers and logs an error for every shape
    if x.dtype.is_integer:
        return tf.stack(tf.unstack(x, axis=1))
    return tf.transpose(x, (1, 0, *range(2, len(x.shape))))


xp = Namespace(
    exp=tf.exp,
    log=tf.math.log,
    sqrt=tf.sqrt,
    tanh=tf.tanh,
    sigmoid=tf.sigmoid,
    abs=tf.abs,
    sign=tf.sign,
    maximum=tf.maximum,
    sum=tf.reduce_sum,
    mean=tf.reduce_mean,
    amax=tf.reduce_max,
    sum_squares=lambda x: tf.reduce_sum(x * x),
    reshape=tf.reshape,
    transpose=_transpose,
    gram=lambda x: tf.matmul(x, x, transpose_b=True),
    concat=tf.concat,
    stack=tf.stack,
    unstack=tf.unstack,
    flip=lambda x: tf.reverse(x, [0]),
    zeros_like=tf.zeros_like,
    take=tf.gather,
    add_rows=tf.math.unsorted_segment_sum,
    pick=lambda x, ids: tf.gather(x, ids, batch_dims=1),
    argmax=lambda x: tf.argmax(x, -1),
    count_above=lambda x, least: tf.reduce_sum(tf.cast(x > least, tf.float32)),
    one_hot=tf.one_hot,
    is_integer=lambda x: tf.as_dtype(x.dtype).is_integer,
    stop_gradient=tf.stop_gradient,
    # a loop in Python becomes one graph of all steps: quicker than tf.while_loop
    scan=python_scan(tf.stack, tf.unstack),
)


def asarray(values: Any, device: Any = None) -> tf.Tensor:
    with tf.device(device):
        return tf.convert_to_tensor(values)


def to_numpy(array: Any) -> npt.NDArray[Any]:
    return np.asarray(array.numpy())  # a scalar would come as a number


def initialize(values: Mapping[str, npt.NDArray[Any]], device: Any = None) -> dict[str, Array]:
    with tf.device(device):
        return {
            # a name in a graph has no dots; a copy, as a tensor may share NumPy's memory
            name: tf.Variable(value.copy(), name=name.replace(".", "_"))
            for name, value in values.items()
        }


def parameters(model: Any) -> dict[str, Array]:
    return without_ties(named_arrays(model))


def named_arrays(model: Any, frozen: bool = False) -> dict[str, Array]:
    return {".".join(path): variable for path, variable in variables(model, (), frozen)}


def is_lazy(model: Any) -> bool:
    # a layer knows of those inside it; a module is asked for those it has
    parts = [model] if isinstance(model, keras.Layer) else vars(model).values()
    return any(isinstance(part, keras.Layer) and not part.built for part in parts)


def gradient(array: Array) -> Array | None:
    return None  # tapes hand gradients out and keep none


def tie(model: Any, place: str, to: str) -> None:
    holder, key = _holder(model, place)
    other, other_key = _holder(model, to)
    shared = dict(children(other))[other_key]
    if isinstance(holder, keras.Layer):
        # a built layer is closed to changes: past its guard, and in its own list too
        old = dict(children(holder))[key]
        attribute = key if key in vars(holder) else "_" + key
        listed = holder._trainable_variables
        listed[[variable is old for variable in listed].index(True)] = shared
        vars(holder)[attribute] = shared
    elif isinstance(holder, tf.Module):
        setattr(holder, key, shared)
    else:
        holder[int(key) if isinstance(holder, list) else key] = shared


def _holder(model: Any, place: str) -> tuple[Any, str]:
    """What has the parameter of this name, and what it calls it."""
    *path, leaf = place.split(".")
    for part in path:
        model = dict(children(model))[part]
    return model, leaf


def assign(parameters: Mapping[str, Array], values: Mapping[str, Any]) -> dict[str, Array]:
    for name, parameter in parameters.items():
        parameter.assign(tf.cast(values[name], parameter.dtype))
    return dict(parameters)


def snapshot(
    parameters: Mapping[str, Array],
    reuse: Mapping[str, Array] | None = None,
    gradients: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    # what is read from a variable stays as it was when the variable is assigned to
    return {name: tf.convert_to_tensor(parameter) for name, parameter in parameters.items()}


_differentiating: ContextVar[bool] = ContextVar("differentiating", default=False)


def in_value_and_grad() -> bool:
    """Whether the function at work is one given to `value_and_grad`."""
    return _differentiating.get()


def value_and_grad(
    function: Callable[..., tuple[Array, Any]],
) -> Callable[..., tuple[tuple[Array, Any], dict[str, Array]]]:
    def differentiate(
        parameters: Mapping[str, Array], *arguments: Any
    ) -> tuple[tuple[Array, Any], dict[str, Array]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for parameter in parameters.values():
                tape.watch(parameter)
            token = _differentiating.set(True)
            try:
                value, auxiliary = function(parameters, *arguments)
            finally:
                _differentiating.reset(token)
        found = tape.gradient(value, dict(parameters))
        # rows that were looked up come as IndexedSlices
        gradients = {n: tf.convert_to_tensor(g) for n, g in found.items() if g is not None}
        return (value, auxiliary), gradients

    return differentiate


def apply_gradients(
    optimizer: Any, parameters: Mapping[str, Array], gradients: Mapping[str, Array]
) -> dict[str, Array]:
    optimizer.apply_gradients([(gradients[n], p) for n, p in parameters.items() if n in gradients])
    return dict(parameters)


def stop_gradient(arrays: Any) -> Any:
    return tf.nest.map_structure(tf.stop_gradient, arrays)


def without_gradients() -> AbstractContextManager[Any]:
    return nullcontext()  # nothing is recorded outside a tape


@contextmanager
def full_precision() -> Iterator[None]:
    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)


def set_training(model: Any, training: bool) -> None:
    """Keras is told at every call: what calls a model finds it here, ``model.training``."""
    for part in _told(model):
        part.training = training


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    before = [(part, getattr(part, "training", False)) for part in _told(model)]
    set_training(model, False)
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def _told(model: Any) -> Iterator[Any]:
    """The model and all its parts that are told by ``training`` whether they are trained."""
    yield model
    for _, child in children(model):
        if hasattr(child, "training"):
            yield from _told(child)


def compile(function: Callable[..., Any]) -> Callable[..., Any]:
    if getattr(getattr(function, "__self__", function), "runs_eagerly", False):
        return function
    # AutoGraph, which lets Python branch on tensors, takes more than half of the time of a trace,
    # as it translates every function that is called; most models do without
    plain, translated = tf.function(function, autograph=False), tf.function(function)
    for each in plain, translated:
        # a model is compiled for each text that it writes: TensorFlow would warn from the fifth on
        each._omit_frequent_tracing_warning = True
    compiled = plain

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal compiled
        try:
            if compiled is plain:
                try:
                    return plain(*arguments, **named)
                except TypeError:  # TensorFlow's, where Python asks a tensor for its value
                    compiled = translated
            return translated(*arguments, **named)
        except Exception as error:
            if isinstance(error.__context__, UnrolledError):  # which AutoGraph has wrapped
                raise error.__context__ from None
            raise

    call.graphs = (plain, translated)  # type: ignore[attr-defined]  # for `state.not_exact`
    return call


def dry_run(function: Callable[..., Any], *arguments: Any) -> None:
    function(*arguments)


def seed(seed: int) -> None:
    keras.utils.set_random_seed(seed % 2**32)  # Python's too, from which layers draw


def fresh_seed() -> int:
    return int(tf.random.uniform((), maxval=2**31 - 1, dtype=tf.int32))


def devices(num_gpus: int) -> list[str]:
    return [device.name for device in tf.config.list_logical_devices("GPU")[:num_gpus]]


def cpu() -> str:
    return "CPU:0"


def to_device(target: Any, device: Any) -> Any:
    """A tensor, or a tuple or list of them, on the device; variables stay where they are.

    TensorFlow places variables on a GPU as it makes them, where there is one.
    """
    if isinstance(target, (tuple, list)):
        return type(target)(to_device(part, device) for part in target)
    if not tf.is_tensor(target) or isinstance(target, tf.Variable):
        return target
    with tf.device(device):
        return tf.identity(target)


def synchronize() -> None:
    if devices(1):
        tf.test.experimental.sync_devices()


def describe() -> dict[str, Any]:
    return {
        "version": tf.__version__,
        "devices": ["cpu", *devices(len(tf.config.list_physical_devices("GPU")))],
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
        "numpy": np.__version__,
    }
