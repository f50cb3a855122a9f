"""Run a command line in this process, but train nothing and measure nothing."""

import os
import shutil
import sys
from contextlib import ExitStack
from unittest.mock import patch

from click.testing import CliRunner
from targets import folder, no_hang, whole_run

from installed import FRAMEWORK
from unrolled import cli, doctor, frameworks
from unrolled.bench import command as bench
from unrolled.errors import UnrolledError
from unrolled.experiments import language_model
from unrolled.experiments.context import Context
from unrolled.processes import launch as processes
from unrolled.report import figures


class Written:
    """A trained model that writes nothing."""

    def write(self, prefixes, length, choose, allow_unknown):
        return []


def stop(*arguments, **options):
    """What is reached when all that was typed is found to be good."""
    raise UnrolledError("training is left out")


INSTEAD = (
    (Context, "begin", stop),
    (Context, "fit", stop),
    (bench, "_measure", stop),
    (processes, "launch", stop),
    (doctor, "examine", lambda check: []),
    (figures, "save", lambda pictures, folder: None),
    (language_model, "load", lambda run: Written()),
    # loading another takes longer than an answer may
    (frameworks, "is_installed", lambda name: frameworks.check(name) == FRAMEWORK),
)


def run(arguments: list[str]) -> tuple[int, str]:
    """The exit code and the output of a command line, in a folder of its own."""
    work = folder() / "work"
    work.mkdir()
    before = os.getcwd()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, work)
        stack.callback(os.chdir, before)
        stack.callback((whole_run() / "report.html").unlink, missing_ok=True)
        os.chdir(work)
        stack.enter_context(patch.dict(os.environ, UNROLLED_CACHE=str(work / "cache")))
        for where, name, other in INSTEAD:
            stack.enter_context(patch.object(where, name, other))
        stack.enter_context(patch.object(sys, "argv", ["unrolled", *arguments]))
        outputs = stack.enter_context(CliRunner().isolation())[:2]
        code: object = None
        with no_hang():
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
        said = b"".join(each.getvalue() for each in outputs)
        return int(code or 0), said.decode(errors="replace")
