"""The command line: parsing only. Every command hands over to the library."""

import io
import os
import shutil
import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from unrolled import __version__, frameworks
from unrolled.arguments import PATH, REAL, WHOLE, Commands, Number, ReaderGoneError, explain
from unrolled.errors import RunError, UnrolledError
from unrolled.output import output_lost, silence
from unrolled.processes.place import LAUNCHER
from unrolled.run_command import run

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

MOST_CHARACTERS, MOST_SAMPLES = 10_000_000, 10_000
"""What `sample` writes at most; all of it is held in memory."""


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
    from unrolled.experiments import EXPERIMENTS, load
    from unrolled.experiments.settings import describe

    for name, summary in EXPERIMENTS.items():
        width = _width()
        click.echo(click.wrap_text(f"{name}: {summary}", width))
        formatter = click.HelpFormatter(width=width)
        with formatter.indentation():
            formatter.write_dl(
                [(f"{n}={d}", help) for n, d, help in describe(load(name).Settings)],
                col_max=min(40, width // 2),  # what is longer has a line of its own
            )
        click.echo(formatter.getvalue())
    click.echo("Set them with: unrolled run EXPERIMENT --set name=value")


cli.add_command(run)


@cli.command()
@click.argument("run", type=PATH)
@click.option("--prefix", help="Text to continue.  [default: that of the run]")
@click.option(
    "--length",
    type=Number(int, 1, MOST_CHARACTERS),
    default=50,
    show_default=True,
    help="Characters to add.",
)
@click.option(
    "--temperature",
    type=REAL,
    help="Draw at random: below 1 more cautious, above 1 wilder.",
)
@click.option("--top-k", type=WHOLE, help="Draw among the K most likely characters only.")
@click.option("--top-p", type=REAL, help="Draw among the likeliest that make up probability P.")
@click.option("--seed", type=WHOLE, default=0, show_default=True, help="Seed of the draws.")
@click.option(
    "--num-samples",
    type=Number(int, 1, MOST_SAMPLES),
    default=1,
    show_default=True,
    help="Texts to write, each drawn for itself.",
)
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
    num_samples: int,
    allow_unknown: bool,
) -> None:
    """Let the language model of a RUN continue a text.

    Greedy, always the most likely character, unless a way of drawing is given.

    \b
    Examples:
      unrolled sample runs/language-model-1 --prefix "time traveller"
      unrolled sample runs/language-model-1 --temperature 0.7 --seed 3 --length 200
      unrolled sample runs/language-model-1 --top-p 0.9 --num-samples 5
    """
    from unrolled.experiments import language_model
    from unrolled.models.generation import choosers

    choose = choosers(num_samples, seed, temperature=temperature, top_k=top_k, top_p=top_p)
    trained = language_model.load(run)
    prefixes = [prefix] * num_samples
    for text in trained.write(prefixes, length, choose=choose, allow_unknown=allow_unknown):
        click.echo(text)


@cli.command()
@click.argument("runs", nargs=-1, required=True, type=PATH)
@click.option(
    "--out",
    type=PATH,
    help="HTML file to write.  [default: report.html in the run; here for several runs]",
)
@click.option(
    "--figures",
    type=PATH,
    metavar="DIR",
    help="Write every figure as PNG and PDF there, too.",
)
def report(runs: tuple[Path, ...], out: Path | None, figures: Path | None) -> None:
    """Show one or several RUNS in one HTML file: curves, gradients through time, diagnosis.

    The file holds all it needs: it opens in any browser, without a network.

    \b
    Examples:
      unrolled report runs/language-model-1
      unrolled report runs/language-model-1 runs/language-model-2 --out compared.html
      unrolled report runs/digit-sum-1 --figures figures
    """
    from unrolled.report import write

    click.echo(f"report written to {write(runs, out, figures)}")
    if figures is not None:
        click.echo(f"figures written to {figures}")


@cli.command()
@click.argument("run", type=PATH)
def diagnose(run: Path) -> None:
    """What went wrong in a RUN, in plain words: where, by how much, and what to try.

    Works for runs that were interrupted or damaged, too; what could not be read is named.

    \b
    Examples:
      unrolled diagnose runs/language-model-1
      unrolled diagnose runs/mine    (made by watch(model, out="runs/mine"))
    """
    from unrolled.telemetry.diagnose import as_text, diagnose_run

    click.echo(as_text(diagnose_run(run), str(run), _width()))


@cli.command()
@click.argument("run", type=PATH)
def params(run: Path) -> None:
    """The parameters of a RUN's model: names, shapes, types, sizes.

    \b
    Example:
      unrolled params runs/language-model-1
    """
    from unrolled.parameters import as_text, listed
    from unrolled.runs.directory import RunDirectory

    values = RunDirectory.open(run).load_model()
    click.echo(as_text([parameter.as_dict() for parameter in listed(values)]))


@cli.command()
@click.argument("run", type=PATH)
@click.option("--to", "framework", required=True, help="Framework to carry the model to.")
@click.option("--out", type=PATH, required=True, help="Run directory to make.")
def convert(run: Path, framework: str, out: Path) -> None:
    """Carry a RUN to another framework: its model, its newest checkpoint, and what it has logged.

    A run that was stopped or killed goes on there; one that is finished takes more epochs.

    \b
    Examples:
      unrolled convert runs/language-model-1 --to jax --out runs/in-jax
      unrolled sample runs/in-jax --prefix "time traveller"
      unrolled run --resume runs/in-jax --set max_epochs=600
    """
    from unrolled.experiments.convert import convert as carry

    click.echo(f"converted to {out}: {carry(run, framework, out)}")


@cli.command()
@click.argument("run", type=PATH)
@click.option("--onnx", "file", type=PATH, required=True, help="ONNX file to write.")
def export(run: Path, file: Path) -> None:
    """Write the language model of a RUN as a file for other software.

    \b
    Example:
      unrolled export runs/language-model-1 --onnx model.onnx
    """
    from unrolled.experiments.onnx import export as write

    write(run, file)
    click.echo(f"written to {file}")


@cli.command()
@click.option(
    "--cell", "cells", multiple=True, metavar="CELL", help="rnn, gru or lstm; repeatable."
)
@click.option(
    "--hiddens",
    multiple=True,
    type=WHOLE,
    metavar="H",
    help="Hidden units; repeatable.  [default: 512]",
)
@click.option("--batch-size", type=WHOLE, default=32, show_default=True)
@click.option("--num-steps", type=WHOLE, default=35, show_default=True)
@click.option(
    "--rounds", type=WHOLE, default=7, show_default=True, help="Turns of each competitor."
)
@click.option(
    "--seconds",
    type=Number(float, 0),
    default=20.0,
    show_default=True,
    help="Length of all turns of a table.",
)
@click.option("--only", multiple=True, metavar="NAME", help="A competitor; repeatable.")
@click.option("--threads", type=WHOLE, help="For everybody.  [default: all cores]")
@click.option("--gpu", is_flag=True, help="On the first GPU; those that can.")
@click.option("--sweep", is_flag=True, help="How cost grows with H, T, B, V and layers, instead.")
@click.option("--json", type=PATH, help="Write all figures to this file, too.")
@click.option("--markdown", is_flag=True, help="Tables to paste into a page.")
@click.option("--list", "list_only", is_flag=True, help="Who can compete here, and who is absent.")
def bench(list_only: bool, **options: Any) -> None:
    """Measure training speed beside everything else that you could use.

    Whole training steps on The Time Machine, all competitors in turn; takes four to five
    minutes. Ctrl-C shows what was measured so far.

    \b
    Examples:
      unrolled bench
      unrolled bench --cell rnn --hiddens 256 --hiddens 1024 --json speed.json
      unrolled bench --only unrolled --only nn --rounds 20
      unrolled bench --sweep --cell rnn
      unrolled bench --gpu --hiddens 512 --hiddens 1024
      unrolled bench --list
    """
    from unrolled.bench.command import Options, listing
    from unrolled.bench.command import bench as measure

    if list_only:
        click.echo(listing(_width()), nl=False)
        return
    measure(Options(**{name: value for name, value in options.items() if value != ()}))


@cli.command()
@click.option("--check", is_flag=True, help="Load every framework and check its numbers, too.")
def doctor(check: bool) -> None:
    """What is installed here, what is missing, how to get it, and whether the kernels work.

    \b
    Examples:
      unrolled doctor
      unrolled doctor --check     (some ten seconds for each framework)
    """
    from unrolled.doctor import examine

    for line in examine(check):
        click.echo(line)


def _width() -> int:
    return min(100, shutil.get_terminal_size().columns)


def _working(what: str) -> AbstractContextManager[Any]:
    from unrolled.runs.progress import working  # when needed: it loads what draws on terminals

    return working(what)


def main() -> None:
    """Run the command line; errors go to standard error, without a traceback."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (for as long as we run)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that cannot show a character of the text must not end a training
            stream.reconfigure(errors="backslashreplace")
    frameworks.working = _working
    try:
        status = cli.main(prog_name="unrolled", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except UnrolledError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command shows its help
            error.show()
            sys.exit(error.exit_code)
        _fail(explain(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C has nothing left to stop
        _fail("stopped by Ctrl-C", INTERRUPTED)
    except (BrokenPipeError, ReaderGoneError):
        silence(sys.stdout)  # or Python would fail to write the rest of it at its end
        sys.exit(0)
    except OSError as error:
        if error.filename is not None:
            _fail(f"'{error.filename}': {error.strerror}; name another", RunError.exit_code)
        silence(sys.stdout)
        _fail(str(output_lost(error)), RunError.exit_code)


def _fail(message: str, status: int) -> None:
    if LAUNCHER in os.environ and os.environ.get("RANK", "0") != "0":
        sys.exit(status)  # process 0 of the same command fails alike, or has been told
    try:
        click.echo("\n".join(f"error: {line}" for line in message.splitlines()), err=True)
    except OSError:  # nobody is left to tell: the terminal is closed
        silence(sys.stderr)
    sys.exit(status)
