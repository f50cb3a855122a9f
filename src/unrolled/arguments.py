"""What the command line adds to click: commands and paths that explain themselves."""

from pathlib import Path
from typing import Any

import click

from unrolled.errors import RunError, UnrolledError, did_you_mean

LONGEST_SHOWN = 60
"""Characters of a path that a message about it shows."""


class ReaderGoneError(Exception):
    """Who reads the output has had enough of it."""


class Commands(click.Group):
    """Commands in the order written here; a wrong one is told the nearest."""

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


class Name(click.Path):
    """A path that the system can take; the library asks it for no other."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        hint = param.get_error_hint(ctx) if param is not None and ctx is not None else "the path"
        if not str(value):
            raise RunError(f"{hint} is empty; name a file or directory")
        try:
            Path(value).exists()
        except OSError as error:
            start = value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]}..."
            raise RunError(f"{hint} cannot be '{start}': {error.strerror}; name another") from None
        return super().convert(value, param, ctx)


PATH = Name(path_type=Path)
