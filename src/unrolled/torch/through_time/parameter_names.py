"""`named_parts` names modules and parameters without the prefixes of wrappers."""

from torch import nn

COMPILED = "_orig_mod"
"""Where `torch.compile` keeps a module."""

WRAPPED = "module."
"""Where `DataParallel` and others of its kind keep a model."""


def named_parts(
    model: nn.Module,
) -> tuple[list[tuple[str, nn.Module]], list[tuple[str, nn.Parameter]]]:
    """The modules and parameters of a model by name, without what wrappers have put in.

    A leading ``module`` is a wrapper's only if there is nothing beside it. The model itself is
    called by its class, and with a ``_`` more where a part of it is called so.
    """
    modules = [(_plain(name), module) for name, module in model.named_modules()]
    parameters = [(_plain(name), parameter) for name, parameter in model.named_parameters()]
    names = {name for name, _ in (*modules, *parameters)}
    beside = any(name and not f"{name}.".startswith(WRAPPED) for name in names)
    prefix = "" if beside else WRAPPED
    taken = {name.removeprefix(prefix) for name in names}
    return (
        [(name.removeprefix(prefix) or _root(module, taken), module) for name, module in modules],
        [(name.removeprefix(prefix), parameter) for name, parameter in parameters],
    )


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != COMPILED)


def _root(model: nn.Module, taken: set[str]) -> str:
    name = type(model).__name__.lower()
    while name in taken:
        name += "_"
    return name
