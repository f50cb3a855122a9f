"""`Resumption`: a run that goes on, and where each of its trainings begins again."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unrolled.backends import Backend
from unrolled.errors import ParameterError, ResumeError
from unrolled.experiments.settings import changed, parse, saved
from unrolled.locking import give_back
from unrolled.runs.directory import RunDirectory
from unrolled.runs.progress import say
from unrolled.training.checkpointing import Checkpointing
from unrolled.training.records import Listener


class Resumption:
    """A run directory, locked to go on with its run.

    A run trains one model or several, one after the other. Those that were finished are taken from
    their last checkpoints; the first that was not goes on from its newest one, and what the logs
    say of later steps is cut off. Until then nothing in the directory changes.

    Args:
        path: of the run directory.
        force: go on also where it cannot be exact.

    Attributes:
        config: what ``config.json`` says.
    """

    def __init__(self, path: Path, force: bool) -> None:
        self.directory = RunDirectory.take(path)
        self.force = force
        self.config: dict[str, Any] = {}
        self._logs: Mapping[str, Any] | None = None  # at the end of the last finished training
        self._goes_on = False
        self._finished = False

    def settings(self, cls: type[Any], assignments: tuple[str, ...]) -> Any:
        """The settings to go on with; a `ResumeError` names those that would change the numbers."""
        try:
            before = saved(cls, self.config)
        except ParameterError as error:
            raise ResumeError(f"'{self.directory.path}' cannot be resumed: {error}") from None
        after = parse(cls, assignments, before)
        differ = changed(before, after)
        if differ and not self.force:
            raise ResumeError(
                f"not exact, because {', '.join(differ)}. Leave it as it was, or give --force"
            )
        if (self.directory.path / "summary.json").exists() and after == before:
            summary = self.directory.read_json("summary.json")
            if isinstance(summary, dict) and summary.get("status") == "finished":
                raise ResumeError(
                    f"'{self.directory.path}' is finished. To add epochs: unrolled run --resume "
                    f"{self.directory.path} --set max_epochs=NUMBER"
                )
        return after

    def source(self, checkpoints: Checkpointing, max_epochs: int) -> Checkpointing | None:
        """What the next training goes on from; None: it begins anew."""
        if self._goes_on:  # in a training before this one, which was begun too early then
            shutil.rmtree(checkpoints.folder, ignore_errors=True)
            return None
        state, problems = checkpoints.newest()
        if state is None:
            if self._logs is None:
                raise ResumeError(
                    "\n".join([f"'{checkpoints.folder}' holds no whole checkpoint", *problems])
                    + "\nRun it once more, with --checkpoint every=1min"
                )
            for text in problems:
                say(text)
            self._goes_on = True
            return None
        self._finished = state["position"]["epoch"] >= max_epochs
        return checkpoints


class Logs(Listener):
    """Keeps how long the logs are at a checkpoint, and cuts them to that when a run goes on."""

    def __init__(self, directory: RunDirectory, go_on: Any) -> None:
        self.directory = directory
        self.go_on = go_on

    def state_dict(self) -> dict[str, Any]:
        return self.directory.log_positions()

    def load_state_dict(self, state: Any) -> None:
        self.go_on(state)
