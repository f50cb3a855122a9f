"""`checked` and `check`: rules for the arguments of public constructors and functions, by name.

An argument means the same wherever it has the same name, so its rule stands here once. The
constructors of classes derived from `unrolled.hyperparameters.HyperParameters` are
checked without a line of their own, functions that are marked `checked`.
"""

import inspect
import math
import operator
from collections.abc import Callable, Iterable
from functools import wraps
from numbers import Real
from types import CodeType
from typing import Any, TypeVar

from unrolled.errors import DataError, SettingError
from unrolled.functional.recurrent import CELLS

Function = TypeVar("Function", bound=Callable[..., Any])


def is_bool(value: Any) -> bool:
    """Return whether a value is a boolean of Python or NumPy."""
    return type(value).__name__ in ("bool", "bool_")


def whole(least: int | None = None) -> Callable[[Any], str | None]:
    """The rule of whole numbers: it says what is expected in the place of a value, or nothing."""
    what = "a whole number" if least is None else f"a whole number of at least {least}"

    def rule(value: Any) -> str | None:
        try:
            number = None if is_bool(value) else operator.index(value)
        except TypeError:
            number = None
        return what if number is None or (least is not None and number < least) else None

    return rule


def number(value: Any) -> str | None:
    """The rule of numbers that are not negative; arrays of one and schedules are taken, too."""
    what = "a number of at least 0"
    if callable(value):
        return None
    if is_bool(value) or isinstance(value, str) or not hasattr(value, "__float__"):
        return what
    if getattr(value, "shape", ()) != ():
        return what
    return what if isinstance(value, Real) and not 0 <= float(value) < math.inf else None


def threshold(value: Any) -> str | None:
    """The rule of what gradients are clipped at: a number, and infinity clips nothing."""
    return None if isinstance(value, Real) and value == math.inf else number(value)


def flag(value: Any) -> str | None:
    """The rule of switches."""
    is_flag = is_bool(value) or (isinstance(value, int) and value in (0, 1))
    return None if is_flag else "True or False"


def seed(value: Any) -> str | None:
    """The rule of seeds: a whole number, or several."""
    several = isinstance(value, Iterable) and not isinstance(value, str) and value is not None
    wrong = any(map(whole(0), value if several else [value]))
    return "None, or whole numbers of at least 0" if wrong else None


def called(value: Any) -> str | None:
    """The rule of what is called: a module, a layer, a loss; also of several layers."""
    several = isinstance(value, (list, tuple)) and len(value) > 0
    right = all(map(callable, value)) if several else callable(value)
    return None if right else "something that can be called"


def iterated(value: Any) -> str | None:
    """The rule of what is gone through."""
    return None if isinstance(value, Iterable) else "a list, or another iterable"


def cell(value: Any) -> str | None:
    """The rule of names of recurrent cells."""
    return None if value in [*CELLS] else f"one of: {', '.join(CELLS)}"


RULES: dict[str, Callable[[Any], str | None]] = {
    name: rule
    for names, rule in (
        (
            "vocab_size num_hiddens num_inputs num_layers batch_size num_steps back_steps "
            "input_size hidden_size num_digits num_classes num_embeddings embedding_dim "
            "in_features out_features num_train num_examples keep",
            whole(1),
        ),
        ("max_epochs num_epochs num_val num_gpus num_preds min_freq", whole(0)),
        ("max_tokens length k", whole()),
        ("lr sigma noise", number),
        ("theta gradient_clip_val", threshold),
        ("use_random_iter allow_unknown", flag),
        ("net model rnn rnn_layer rnn_model loss loss_fn", called),
        ("listeners params tokens", iterated),
        ("seed", seed),
        ("cell", cell),
    )
    for name in names.split()
}
"""Rules for arguments, by name. None is allowed where it is the default."""


def check(arguments: Iterable[tuple[str, Any, Any]], of: str) -> None:
    """Make sure that arguments, given as name, value and default, are what they should be."""
    wrong = []
    for name, value, default in arguments:
        rule = RULES.get(name)
        if rule is None or value is default or (value is None and default is None):
            continue
        if what := rule(value):
            wrong.append(f"{of}: {name} is {_shown(value)}; it must be {what}")
    if wrong:
        raise SettingError("\n".join(wrong))


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) < 60 else f"a {type(value).__name__}"


def checked(function: Function) -> Function:
    """Mark a function or constructor whose arguments are checked by their names."""
    signature = inspect.signature(function)
    if not signature.parameters.keys() & RULES.keys():
        return function

    @wraps(function)
    def checking(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind_partial(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own error: that names what is missing
        given = bound.arguments
        is_constructor = function.__name__ == "__init__" and args
        of = type(args[0]).__name__ if is_constructor else function.__name__
        known = signature.parameters
        check(((name, value, known[name].default) for name, value in given.items()), of)
        return function(*args, **kwargs)

    checking.__signature__ = signature  # type: ignore[attr-defined]  # Keras looks at it
    return checking  # type: ignore[return-value]


CHECKING: CodeType = checked(lambda lr: lr).__code__
"""The code around a checked function, to pass over in a stack."""


def check_inputs(model: Any, X: Any, form: str, width: int | None = None) -> None:
    """Make sure that a model is given inputs of the shape that it reads, or raise a `DataError`.

    The form is ``"(B, L, D)"``, a letter for each axis; the width is that of the last axis.
    """
    shape = getattr(X, "shape", None)
    if getattr(shape, "rank", 0) is None:  # TensorFlow does not know it yet
        return
    rank = form.count(",") + 1
    if shape is not None and len(shape) == rank and (width is None or shape[-1] in (width, None)):
        return
    last = form.rstrip(")").split(" ")[-1]
    wanted = form if width is None else f"{form} with {last}={width}"
    given = f"a {type(X).__name__}" if shape is None else str(tuple(shape))
    raise DataError(f"{type(model).__name__} reads inputs {wanted}; it was given {given}")


def check_ids(model: Any, X: Any, form: str = "") -> None:
    """Make sure that a model is given ids, whole numbers, of a shape if one is named."""
    if form:
        check_inputs(model, X, form)
    # MXNet's arrays hold float32 where nobody asks for more, ids too
    if model.backend.name != "mxnet" and not model.backend.xp.is_integer(X):
        name = type(model).__name__
        raise DataError(f"{name} reads ids, whole numbers; it was given {X.dtype}")
