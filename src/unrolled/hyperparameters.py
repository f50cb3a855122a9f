"""``save_hyperparameters``, which keeps constructor arguments, and ``add_to_class``."""

import inspect
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, TypeVar

from unrolled.checks import CHECKING, checked

Function = TypeVar("Function", bound=Callable[..., Any])


def add_to_class(Class: type) -> Callable[[Function], Function]:
    """Register a function as a method of a class that exists already.

    So that a notebook can build a class up over several cells, also after instances
    exist: they get the method too.

    Example:
        >>> class A:
        ...     b = 1
        >>> a = A()
        >>> @add_to_class(A)
        ... def double(self):
        ...     return 2 * self.b
        >>> a.double()
        2
    """

    def register(function: Function) -> Function:
        setattr(Class, function.__name__, function)
        return function

    return register


class HyperParameters:
    """Gives `save_hyperparameters` to a class, and checks what its constructor is given.

    The check is for classes of this library, see `unrolled.checks`; those derived from them may
    call their own arguments as they like.

    Example:
        >>> class Model(HyperParameters):
        ...     def __init__(self, width, lr=0.1, _cache=None):
        ...         self.save_hyperparameters(ignore=["width"])
        >>> model = Model(3)
        >>> model.lr, model.hparams, hasattr(model, "width")
        (0.1, {'lr': 0.1}, False)
    """

    hparams: dict[str, Any]
    _ignored_hparams: set[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls) and cls.__module__.startswith("unrolled."):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]

    def save_hyperparameters(self, ignore: Iterable[str] = ()) -> None:
        """Keep every argument of the calling ``__init__`` as attribute and in ``hparams``.

        Called from a parent's ``__init__``, it keeps the arguments of the subclass' own
        ``__init__`` too; where both have a name, the parent's value counts, as its code
        expects; and those called like a method stand in ``hparams`` only. Keyword extras
        (``**kwargs``) are kept one by one.

        Args:
            ignore: names to leave out, also if an earlier call has kept them. ``self``
                and names that begin with ``_`` are always left out.
        """
        frame = inspect.currentframe()
        frame = frame.f_back if frame else None
        own = _arguments(frame) if frame and _initializes(frame, self) else {}
        # what a subclass has ignored stays ignored when a parent's call finds it
        earlier: set[str] = self.__dict__.get("_ignored_hparams", set()) - own.keys()
        ignored = set(ignore) | earlier
        self._ignored_hparams = ignored
        found: dict[str, Any] = {}
        while frame is not None and _initializes(frame, self):
            found = {**_arguments(frame), **found}
            frame = frame.f_back
            while frame is not None and frame.f_code is CHECKING:
                frame = frame.f_back
        kept = {k: v for k, v in found.items() if k not in ignored and not k.startswith("_")}
        hparams = dict(self.__dict__.get("hparams", {}))
        for name in ignored & hparams.keys():
            del hparams[name]
            delattr(self, name)
        self.hparams = hparams | kept
        for name, value in kept.items():
            # a subclass' argument that happens to be called like a method must not hide it
            if name in own or not _is_method(type(self), name):
                setattr(self, name, value)


def _is_method(Class: type, name: str) -> bool:
    found = inspect.getattr_static(Class, name, None)
    return callable(found) or hasattr(found, "__get__")  # or a property


def _initializes(frame: FrameType, instance: object) -> bool:
    """Whether a frame runs an ``__init__`` of this very instance."""
    code = frame.f_code
    return (
        code.co_name == "__init__"
        and code.co_argcount > 0
        and frame.f_locals.get(code.co_varnames[0]) is instance
    )


def _arguments(frame: FrameType) -> dict[str, Any]:
    names, args, kwargs, values = inspect.getargvalues(frame)
    arguments = {name: values[name] for name in names[1:] if name in values}
    if args:
        arguments[args] = values[args]
    if kwargs:
        arguments |= values[kwargs]
    return arguments
