"""`write` the HTML report of runs, with PNG and PDF on request; `show` it in a notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unrolled.errors import RunError
from unrolled.writing import write_whole

if TYPE_CHECKING:
    from unrolled.report.inline import Inline, Watched

FILE = "report.html"


def write(
    paths: Sequence[str | Path],
    out: str | Path | None = None,
    figures: str | Path | None = None,
    hurry: bool = False,
) -> Path:
    """Write the report of one run or several.

    Args:
        paths: run directories, whole or not.
        out: the file to write; None takes ``report.html`` in the run directory, or for
            several runs in the current one. A report is replaced, another file is not.
        figures: a directory for the same pictures as PNG and PDF; None writes none.
        hurry: read only a part of very long telemetry.

    Returns:
        The file.

    Raises:
        RunError: a path is no run directory, or something cannot be written; nothing
            half-written remains.
        MissingPackageError: figures were asked for, and matplotlib is not installed.
    """
    from unrolled.report import page
    from unrolled.report.figures import check, save
    from unrolled.report.reading import read_runs

    runs = read_runs([Path(path) for path in paths], hurry)
    file = Path(out) if out is not None else (runs[0].path if len(runs) == 1 else Path()) / FILE
    if out is None and file.is_symlink():
        raise RunError(f"'{file}' is a link to '{file.readlink()}'; name a file for --out")
    _check_free(file, page.GENERATOR)
    if figures is not None:
        check(Path(figures))
    drawn, only = page.pictures(runs)
    text = page.render(runs, drawn, only)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode("utf-8", "backslashreplace"))  # of names that are no UTF-8
    except OSError as error:
        raise RunError(f"'{file}' cannot be written: {error.strerror}") from None
    if figures is not None:
        save([picture for each in drawn.values() for picture in each], Path(figures))
    return file


def show(
    run: "str | Path | Watched", *others: "str | Path | Watched", height: str = "40rem"
) -> "Inline":
    """The report of one run or several inside a notebook, in a frame of its own.

    Args:
        run, others: run directories, or watches (`unrolled.watch`), open ones too.
        height: of the frame, as CSS has it.

    Returns:
        What a notebook shows when it stands last in a cell; in a terminal a line.

    Raises:
        RunError: a path is no run directory.
        SettingError: something is neither.

    Example:
        >>> import torch
        >>> from unrolled.watch import watch
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with watch(model) as watched:
        ...     model(torch.ones(2, 3)).sum().backward()
        ...     optimizer.step()
        >>> show(watched)
        report of watch: watch, kept in memory (a notebook shows it; else: unrolled report RUN)
    """
    from unrolled.report.inline import Inline, read

    return Inline(read(run, *others), height)


def _check_free(file: Path, generator: str) -> None:
    if file.is_dir():
        raise RunError(f"'{file}' is a directory; name a file for --out")
    if not file.exists():
        return
    if not file.is_file():
        raise RunError(f"'{file}' is no regular file; name another for --out")
    with file.open("rb") as old:
        if generator.encode() not in old.read(1000):
            raise RunError(f"'{file}' exists and is no report; choose another --out, or remove it")
