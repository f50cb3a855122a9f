"""The command line: parsing only. Every command hands over to the library."""

import signal
import sys
from pathlib import Path

import click

from unrolled import __version__
from unrolled.errors import UnrolledError, did_you_mean

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Commands(click.Group):
    """Commands in the order written here; a wrong one is told the nearest."""

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


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="unrolled")
def cli() -> None:
    """Deep learning from first principles, unrolled so that you see inside.

    \b
    Begin with:
      unrolled run language-model      watch a network learn The Time Machine
      unrolled list                    what else there is, and every setting
    """


@cli.command("list")
def list_() -> None:
    """The experiments, and the settings of each.

    \b
    Example:
      unrolled list
    """
    from unrolled.experiments import EXPERIMENTS
    from unrolled.experiments.settings import describe

    for experiment in EXPERIMENTS.values():
        click.echo(f"{experiment.name}: {experiment.summary}")
        formatter = click.HelpFormatter(width=min(100, _width()))
        with formatter.indentation():
            formatter.write_dl(
                [(f"{n}={d}", help) for n, d, help in describe(experiment.load().Settings)],
                col_max=40,
            )
        click.echo(formatter.getvalue())
    click.echo("Set them with: unrolled run EXPERIMENT --set name=value")


@cli.command()
@click.argument("experiment")
@click.option("--framework", default="torch", show_default=True, help="Framework to run on.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random draws.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Run directory to make.  [default: runs/EXPERIMENT-1, -2, ...]",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting; `unrolled list` has them all. Can be given many times.",
)
def run(
    experiment: str, framework: str, seed: int, out: Path | None, assignments: tuple[str, ...]
) -> None:
    """Run an EXPERIMENT and keep it in a run directory.

    \b
    Examples:
      unrolled run linear-regression
      unrolled run linear-regression --set max_epochs=10
      unrolled run language-model --seed 1 --out runs/first
      unrolled run language-model --set model=lstm --set max_epochs=100
      unrolled run language-model --set text=mybook.txt --set max_tokens=50000
    """
    from unrolled import experiments

    experiments.run(experiment, assignments, framework, seed, out)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--prefix", help="Text to continue.  [default: that of the run]")
@click.option(
    "--length", type=click.IntRange(min=1), default=50, show_default=True, help="Characters to add."
)
@click.option("--temperature", type=float, help="Draw at random: below 1 bolder, above 1 wilder.")
@click.option("--top-k", type=int, help="Draw among the K most likely characters only.")
@click.option("--top-p", type=float, help="Draw among the likeliest that make up probability P.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws.")
@click.option(
    "--allow-unknown", is_flag=True, help="Let characters outside the vocabulary count as <unk>."
)
def sample(
    run: Path,
    prefix: str | None,
    length: int,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    allow_unknown: bool,
) -> None:
    """Let the language model of a RUN continue a text.

    Greedy, always the most likely character, unless a way of drawing is given.

    \b
    Examples:
      unrolled sample runs/language-model-1 --prefix "time traveller"
      unrolled sample runs/language-model-1 --temperature 0.7 --seed 3 --length 200
      unrolled sample runs/language-model-1 --top-p 0.9
    """
    from unrolled.experiments import language_model
    from unrolled.training.generation import chooser

    choose = chooser(temperature, top_k, top_p, seed)
    trained = language_model.load(run)
    click.echo(trained.write(prefix, length, choose=choose, allow_unknown=allow_unknown))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
def params(run: Path) -> None:
    """The parameters of a RUN's model: names, shapes, types, sizes.

    \b
    Example:
      unrolled params runs/language-model-1
    """
    from unrolled.parameters import Parameter, as_text
    from unrolled.runs.directory import RunDirectory

    values = RunDirectory.open(run).load_model()
    click.echo(as_text([Parameter(n, (n,), value).as_dict() for n, value in values.items()]))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--to", "framework", required=True, help="Framework to carry the model to.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Run directory to make."
)
def convert(run: Path, framework: str, out: Path) -> None:
    """Carry the model of a RUN to another framework.

    \b
    Example:
      unrolled convert runs/language-model-1 --to jax --out runs/in-jax
      unrolled sample runs/in-jax --prefix "time traveller"
    """
    from unrolled.runs.convert import convert as carry

    click.echo(f"converted to {out} ({carry(run, framework, out)})")


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--onnx", "file", type=click.Path(path_type=Path), required=True, help="ONNX file to write."
)
def export(run: Path, file: Path) -> None:
    """Write the language model of a RUN as a file for other software.

    \b
    Example:
      unrolled export runs/language-model-1 --onnx model.onnx
    """
    from unrolled.runs.onnx import export as write

    write(run, file)
    click.echo(f"written to {file}")


@cli.command()
def doctor() -> None:
    """What is installed here, what is missing, and how to get it.

    \b
    Example:
      unrolled doctor
    """
    from unrolled.doctor import examine

    for line in examine():
        click.echo(line)


def _width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def main() -> None:
    """Run the command line; errors go to standard error, without a traceback."""
    try:
        status = cli.main(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except UnrolledError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C has nothing left to stop
        _fail("stopped by Ctrl-C", INTERRUPTED)
    except BrokenPipeError:  # the reader, `head` for one, has had enough
        sys.stderr.close()
        sys.exit(0)


def _fail(message: str, status: int) -> None:
    click.echo("\n".join(f"error: {line}" for line in message.splitlines()), err=True)
    sys.exit(status)
