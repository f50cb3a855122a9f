"""Which frameworks the tests run on: those installed in this environment."""

from unrolled.frameworks import FRAMEWORKS, is_installed

INSTALLED = [name for name in FRAMEWORKS if is_installed(name)]

FRAMEWORK = INSTALLED[0] if INSTALLED else "torch"
"""What commands run on that name none: PyTorch, or what there is instead."""


def with_framework(*arguments: object) -> tuple[object, ...]:
    """The arguments of a command; those of ``run`` with a framework that is installed."""
    if arguments and arguments[0] == "run" and not {"--framework", "--help"} & {*arguments}:
        return (*arguments, "--framework", FRAMEWORK)
    return arguments
