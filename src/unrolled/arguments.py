"""Commands, paths and numbers for click whose errors speak our words."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from unrolled.errors import (
    MOST_WHOLE,
    RunError,
    SettingError,
    UnrolledError,
    did_you_mean,
    shortened,
)


class ReaderGoneError(Exception):
    """Who reads the output has had enough of it."""


class Command(click.Command):
    """A command that says what it cannot do with arguments too many."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            rest = super().parse_args(ctx, args)
        except click.BadOptionUsage as error:
            error.ctx = ctx  # click leaves it out
            raise
        if ctx.args:
            many = ", ".join(f"'{argument}'" for argument in ctx.args)
            raise UnrolledError(f"{ctx.command_path} cannot use {many}; {_usage(ctx)}")
        return rest


class Commands(click.Group):
    """Commands in the order written here; a wrong one is told the nearest."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `head` for one; click would call it a failure
            raise ReaderGoneError from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise UnrolledError(
                f"unknown command '{args[0]}': {did_you_mean(args[0], self.commands)}"
            )
        return super().resolve_command(ctx, args)


def explain(error: click.ClickException) -> str:
    """Explain a usage error of a command line in our words."""
    ctx = getattr(error, "ctx", None)
    if ctx is None:
        return error.message
    if isinstance(error, click.NoSuchOption):
        known = [option for param in ctx.command.get_params(ctx) for option in param.opts]
        hint = did_you_mean(error.option_name, [o for o in known if o.startswith("--")])
        return f"{ctx.command_path} has no option '{error.option_name}': {hint}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{error.param.get_error_hint(ctx)} is missing; {_usage(ctx)}"
    if isinstance(error, click.BadOptionUsage):
        option = next(p for p in ctx.command.params if error.option_name in p.opts)
        takes = "no value" if getattr(option, "is_flag", False) else "a value"
        return f"'{error.option_name}' takes {takes}; {_usage(ctx)}"
    return f"{error.message}; {_usage(ctx)}"


def _usage(ctx: click.Context) -> str:
    pieces = " ".join(ctx.command.collect_usage_pieces(ctx))
    return f"write: {ctx.command_path} {pieces} (more: {ctx.command_path} --help)"


class Number(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click
    """A number in a range; ``kind`` is int or float."""

    def __init__(
        self, kind: Callable[[str], float], least: float = -math.inf, most: float = math.inf
    ) -> None:
        self.kind, self.least, self.most = kind, least, most
        self.name = "integer" if kind is int else "float"  # as help shows it

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        hint = param.get_error_hint(ctx) if param is not None and ctx is not None else "the number"
        what = "a whole number" if self.kind is int else "a number"
        if self.least > -math.inf:
            what += f" of at least {self.least:,}"
        if self.most < math.inf:
            what += f" and at most {self.most:,}"
        try:
            number = self.kind(value)
            if self.name == "integer" and abs(number) > MOST_WHOLE:
                what += " of at most 30 digits"
                raise ValueError
        except ValueError:
            number = None
        bounded = (self.least, self.most) != (-math.inf, math.inf)
        if number is None or (bounded and not self.least <= number <= self.most):
            raise SettingError(f"{hint} is '{shortened(str(value))}'; it must be {what}")
        return number


WHOLE, REAL = Number(int), Number(float)


class Name(click.Path):
    """A path that the system can take; the library asks it for no other."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        hint = param.get_error_hint(ctx) if param is not None and ctx is not None else "the path"
        if not str(value):
            raise RunError(f"{hint} is empty; name a file or directory")
        try:
            Path(value).exists()
        except OSError as error:
            start = shortened(value)
            raise RunError(f"{hint} cannot be '{start}': {error.strerror}; name another") from None
        return super().convert(value, param, ctx)


PATH = Name(path_type=Path)
