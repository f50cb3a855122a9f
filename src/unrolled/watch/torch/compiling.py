"""Keep compiled code apart: that of watched modules, and that of modules that nobody watches.

Compiled code does not ask whether a module has hooks. What was compiled before a watch would run
in a watched model, and the other way round, as models of a class share their code. But it does
ask of what type the dict of a module's parameters is. So as long as a module has hooks that must
interrupt compiled code, that dict is of another type: nothing compiled has to be thrown away, and
what was compiled before the watch is used again after it.
"""

from collections import OrderedDict
from typing import Any

from torch import nn

PARAMETERS = "_parameters"


def set_apart(module: nn.Module) -> None:
    """Give the dict of a module's parameters the other type, or the first one back."""
    now = vars(module)[PARAMETERS]
    vars(module)[PARAMETERS] = swapped(now)


def swapped(parameters: dict[str, Any]) -> dict[str, Any]:
    """The same dict in the other of the two types that PyTorch has used for it."""
    return dict(parameters) if isinstance(parameters, OrderedDict) else OrderedDict(parameters)
