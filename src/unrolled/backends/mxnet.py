"""Array operations, gradients and optimizer steps in MXNet's NumPy interface, ``mx.np``.

Importing this switches that interface on for the thread that imports it
(``mx.npx.set_np()``, as MXNet's own programs do): Gluon's layers and scalars of no
dimension need it. Another thread that uses Gluon must call it too.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import mxnet as mx
import numpy as np
import numpy.typing as npt
from mxnet import autograd, gluon

from unrolled.backends.namespace import Array, Namespace, python_scan
from unrolled.backends.protocol import StateFunctions
from unrolled.backends.state import mxnet as mxnet_state
from unrolled.backends.tied import without_ties
from unrolled.errors import ParameterError

mx.npx.set_np()

name = "mxnet"

state: StateFunctions = mxnet_state


def _unstack(x: Any) -> list[Array]:
    # not x[t]: the backward of x[t] fills a whole array of zeros for every t
    parts = mx.nd.SliceChannel(x.as_nd_ndarray(), num_outputs=x.shape[0], axis=0, squeeze_axis=True)
    return [part.as_np_ndarray() for part in (parts if isinstance(parts, list) else [parts])]


xp = Namespace(
    exp=mx.np.exp,
    log=mx.np.log,
    sqrt=mx.np.sqrt,
    # activation, not mx.np.tanh and npx.sigmoid: several times as fast
    tanh=lambda x: mx.npx.activation(x, act_type="tanh"),
    sigmoid=lambda x: mx.npx.activation(x, act_type="sigmoid"),
    abs=mx.np.abs,
    sign=mx.np.sign,
    maximum=mx.np.maximum,
    sum=mx.np.sum,
    mean=mx.np.mean,
    amax=mx.np.max,
    sum_squares=lambda x: mx.np.sum(x * x),
    reshape=mx.np.reshape,
    transpose=lambda x: mx.np.swapaxes(x, 0, 1),
    gram=lambda x: mx.npx.batch_dot(x, x, transpose_b=True),
    concat=lambda arrays, axis: mx.np.concatenate(arrays, axis=axis),
    stack=mx.np.stack,
    unstack=_unstack,
    flip=lambda x: mx.np.flip(x, 0),
    zeros_like=mx.np.zeros_like,
    take=lambda W, ids: mx.np.take(W, ids, axis=0),
    # a product with one-hot rows: MXNet offers no scatter-add under its NumPy interface
    add_rows=lambda rows, ids, V: mx.np.dot(mx.npx.one_hot(ids, V).T, rows),
    pick=lambda x, ids: mx.npx.pick(x, ids, axis=1),
    argmax=lambda x: mx.np.argmax(x, -1),
    count_above=lambda x, least: mx.np.sum((x > least).astype("float32")),
    one_hot=mx.npx.one_hot,
    is_integer=lambda x: bool(np.issubdtype(x.dtype, np.integer)),
    stop_gradient=lambda x: x.detach(),
    scan=python_scan(mx.np.stack, _unstack),
)


def asarray(values: Any, device: Any = None) -> Array:
    if isinstance(values, mx.np.ndarray):
        return values if device is None else values.as_in_ctx(device)
    array = np.asarray(values)
    if array.dtype == np.float64 and not isinstance(values, (np.ndarray, np.generic)):
        array = array.astype(np.float32)  # plain numbers: MXNet's default type
    return mx.np.array(array, dtype=array.dtype, ctx=device)


def to_numpy(array: Array) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = array.asnumpy()
    return values


def initialize(values: Mapping[str, npt.NDArray[Any]], device: Any = None) -> dict[str, Array]:
    parameters = {name: asarray(value, device) for name, value in values.items()}
    for parameter in parameters.values():
        parameter.attach_grad()
    return parameters


def _slots(block: gluon.Block, prefix: str = "") -> Iterator[tuple[str, gluon.Block, str]]:
    """Every parameter's dotted name, the block that holds it, and its name there."""
    for leaf in block._reg_params:
        yield prefix + leaf, block, leaf
    for child_name, child in block._children.items():
        yield from _slots(child, f"{prefix}{child_name}.")


def parameters(model: gluon.Block) -> dict[str, Array]:
    return without_ties(named_arrays(model))


def named_arrays(model: gluon.Block) -> dict[str, Array]:
    named = {name: block._reg_params[leaf].data() for name, block, leaf in _slots(model)}
    return named | {name: vars(block)[leaf] for name, block, leaf in _arrays(model)}


def _arrays(block: gluon.Block, prefix: str = "") -> Iterator[tuple[str, gluon.Block, str]]:
    """Arrays that a block keeps as attributes and that have a gradient attached.

    Gluon does not know of them; but a model written out has its parameters so.
    """
    for leaf, value in vars(block).items():
        if isinstance(value, mx.np.ndarray) and value.grad is not None:
            yield prefix + leaf, block, leaf
    for child_name, child in block._children.items():
        yield from _arrays(child, f"{prefix}{child_name}.")


def is_lazy(model: gluon.Block) -> bool:
    every = [block._reg_params[leaf] for _, block, leaf in _slots(model)]
    return any(parameter._deferred_init for parameter in every)


def ensure_initialized(block: gluon.Block, how: Any = None) -> Any:
    """Give a block initial values if it has none; returns the device that it is on."""
    for parameter in block.collect_params().values():
        if parameter._data is None and not parameter._deferred_init:
            parameter.initialize(how)
    return next(iter(block.collect_params().values())).list_ctx()[0]


def gradient(array: Array) -> Array | None:
    return array.grad


def tie(model: gluon.Block, place: str, to: str) -> None:
    arrays = {name: (block, leaf) for name, block, leaf in _arrays(model)}
    if {place, to} <= arrays.keys():
        (block, leaf), (source, source_leaf) = arrays[place], arrays[to]
        vars(block)[leaf] = vars(source)[source_leaf]
        return
    slots = {name: (block, leaf) for name, block, leaf in _slots(model)}
    if not {place, to} <= slots.keys():
        raise ParameterError(
            f"{place} and {to} cannot be tied: one is a parameter of Gluon's, the other a plain "
            "array; make both the same"
        )
    (block, leaf), (source, source_leaf) = slots[place], slots[to]
    replaced, shared = block._reg_params[leaf], source._reg_params[source_leaf]
    own = block.params._params
    for key in [key for key, parameter in own.items() if parameter is replaced]:
        del own[key]
    own[shared.name] = shared
    block._reg_params[leaf] = shared
    if block.__dict__.get(leaf) is replaced:
        block.__dict__[leaf] = shared
    model.apply(_forget_graph)


def _forget_graph(block: gluon.Block) -> None:
    if isinstance(block, gluon.HybridBlock):
        block._clear_cached_op()  # a hybridized graph knows its parameters


def assign(parameters: Mapping[str, Array], values: Mapping[str, Any]) -> dict[str, Array]:
    for name, parameter in parameters.items():
        parameter[:] = values[name]
    return dict(parameters)


def snapshot(
    parameters: Mapping[str, Array],
    reuse: Mapping[str, Array] | None = None,
    gradients: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    if reuse is None:
        return {name: parameter.detach().copy() for name, parameter in parameters.items()}
    return assign(reuse, parameters)


def value_and_grad(
    function: Callable[..., tuple[Array, Any]],
) -> Callable[..., tuple[tuple[Array, Any], dict[str, Array]]]:
    # backward(), not autograd.grad: it leaves .grad where readers and Gluon look for it
    def differentiate(
        parameters: Mapping[str, Array], *arguments: Any
    ) -> tuple[tuple[Array, Any], dict[str, Array]]:
        # a constant, or one with grad_req="null", has no place for a gradient
        trained = {name: p for name, p in parameters.items() if p.grad is not None}
        for parameter in trained.values():
            parameter._fresh_grad = False  # backward sets it
        with autograd.record(train_mode=autograd.is_training()):
            value, auxiliary = function(parameters, *arguments)
        value.backward()
        gradients = {name: p.grad for name, p in trained.items() if p._fresh_grad}
        return (value.detach(), auxiliary), gradients

    return differentiate


def apply_gradients(
    optimizer: Any, parameters: Mapping[str, Array], gradients: Mapping[str, Array]
) -> dict[str, Array]:
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            parameter.grad[:] = gradients.get(name, 0)
            parameter._fresh_grad = name in gradients
    if isinstance(optimizer, gluon.Trainer):
        optimizer.step(1, ignore_stale_grad=True)  # 1: the loss is a mean already
    else:
        optimizer.step(1)
    return dict(parameters)


def stop_gradient(arrays: Any) -> Any:
    if isinstance(arrays, (tuple, list)):
        return type(arrays)(map(stop_gradient, arrays))
    return arrays.detach()


def without_gradients() -> AbstractContextManager[Any]:
    scope: AbstractContextManager[Any] = autograd.pause(train_mode=autograd.is_training())
    return scope


def full_precision() -> AbstractContextManager[Any]:
    return nullcontext()  # older than such GPUs


def set_training(model: gluon.Block, training: bool) -> None:
    autograd.set_training(training)  # in MXNet a matter of the thread, not of the model


def evaluating(model: gluon.Block) -> AbstractContextManager[None]:
    scope: AbstractContextManager[None] = autograd.predict_mode()
    return scope


def compile(function: Callable[..., Any]) -> Callable[..., Any]:
    return function  # eager: every line runs as it is read


def dry_run(function: Callable[..., Any], *arguments: Any) -> None:
    function(*arguments)


def seed(seed: int) -> None:
    mx.random.seed(seed)


def fresh_seed() -> int:
    return int(mx.np.random.randint(0, 2**31 - 1, dtype="int64").item())


def devices(num_gpus: int) -> list[Any]:
    return [mx.gpu(i) for i in range(min(num_gpus, mx.context.num_gpus()))]


def cpu() -> Any:
    return mx.cpu()


def to_device(target: Any, device: Any) -> Any:
    """An array or block, or a tuple or list of them, on the device; the rest as it is."""
    if isinstance(target, (tuple, list)):
        return type(target)(to_device(part, device) for part in target)
    if device is None:
        return target
    if isinstance(target, gluon.Block):
        for _, block, leaf in _slots(target):
            block._reg_params[leaf].reset_ctx(device)
        for _, block, leaf in _arrays(target):
            vars(block)[leaf] = vars(block)[leaf].as_in_ctx(device)
            vars(block)[leaf].attach_grad()
        return target
    return target.as_in_ctx(device) if isinstance(target, mx.np.ndarray) else target


def synchronize() -> None:
    mx.nd.waitall()


def describe() -> dict[str, Any]:
    return {
        "version": mx.__version__,
        "devices": ["cpu", *(str(device) for device in devices(mx.context.num_gpus()))],
        "threads": mx.base._LIB.omp_get_max_threads(),
        "numpy": np.__version__,
    }
