"""`Resumption`: a run that goes on, and where each of its trainings begins again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unrolled.backends import Backend
from unrolled.errors import ParameterError, ResumeError, RunError
from unrolled.experiments.settings import changed, parse, saved
from unrolled.locking import give_back, leave
from unrolled.runs.directory import RunDirectory
from unrolled.runs.ending import SUMMARY
from unrolled.runs.followed import FollowedRun
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
        follows: another process of the training writes the directory; this one only reads it.

    Attributes:
        config: what ``config.json`` says.
    """

    def __init__(self, path: Path, force: bool, follows: bool = False) -> None:
        self.directory = (FollowedRun if follows else RunDirectory).take(path)
        self.force = force
        self.config: dict[str, Any] = {}
        self._config: Mapping[str, Any] = {}  # what it will say
        self._logs: Mapping[str, Any] = {}  # at the end of the last finished training
        self._place: dict[str, Any] = {}
        self._goes_on = self._is_last = False

    def __enter__(self) -> "Resumption":
        try:
            self.config = self.directory.read_config()
            if not isinstance(self.config.setdefault("used", {}), dict):
                raise ResumeError(f"'{self.directory.path}' is damaged: 'used' is no object")
        except BaseException:
            give_back(self.directory.path)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self._goes_on:
            leave(self.directory.path)
        else:
            give_back(self.directory.path)

    def check(self, given: Mapping[str, Any]) -> None:
        """Make sure that the run is of the experiment, framework and seed that were asked for."""
        for name, value in given.items():
            found = self.config[name]
            if value is not None and value != found:
                advice = (
                    f"carry it there: unrolled convert {self.directory.path} --to {value} --out NEW"
                    if name == "framework"
                    else f"leave out the {name}"
                )
                raise ResumeError(
                    f"'{self.directory.path}' is a run with {name} {found}, not {value}; {advice}"
                )

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
        if (self.directory.path / SUMMARY).exists() and after == before:
            summary = self.directory.read_json(SUMMARY)
            if isinstance(summary, dict) and summary.get("status") == "finished":
                more = "Run it once more with more of them"  # several trainings, one after another
                if cls.__dataclass_fields__["max_epochs"].metadata["may_change"]:
                    more = f"unrolled run --resume {self.directory.path} --set max_epochs=NUMBER"
                raise ResumeError(f"'{self.directory.path}' is finished. To add epochs: {more}")
        return after

    def begin(self, config: Mapping[str, Any], files: Mapping[str, Any], backend: Backend) -> None:
        """Check that the run is what it was; write nothing yet."""
        for name, value in files.items():
            if self.directory.read_json(name) != value and not self.force:
                raise ResumeError(
                    f"not exact, because {name} would be another: the text differs. Put it back, "
                    "or give --force"
                )
        self._config = {**self.config, **config, "used": {**config["used"], **self.config["used"]}}
        self._backend = backend

    def source(self, checkpoints: Checkpointing, trainer: Any) -> Checkpointing | None:
        """Return the checkpoints that the next training goes on from; None: it begins anew."""
        if self._goes_on:  # an earlier training was not finished when this one began
            self.directory.remove_tree(checkpoints.folder)
            return None
        state, problems = checkpoints.newest()
        self._place = {"step": state["position"]["step"] if state else 0}
        if checkpoints.part is not None:
            self._place["part"] = checkpoints.part
        if state is None:
            if not self._logs:
                text = f"'{checkpoints.folder}' holds no whole checkpoint; run it once more"
                raise ResumeError("\n".join([text, *problems]))
            for problem in problems:
                say(problem)
            self.go_on()
            return None
        epoch = state["position"]["epoch"]
        self._is_last = epoch < trainer.max_epochs
        self._where = f"in epoch {epoch + 1} of {trainer.max_epochs}"
        return checkpoints

    def found(self, logs: Mapping[str, Any]) -> None:
        """Hear that a training is where it was when the logs were so long."""
        self._logs = logs
        if self._is_last:
            self.go_on()
            say(f"going on after step {self._place['step']:,}, {self._where}")

    def go_on(self) -> None:
        """Cut the logs to where the trainings are, and write down that the run goes on."""
        if self._goes_on:
            return
        self._goes_on = True
        try:
            self.directory.go_on(self._config, self._logs, self._place, self._backend)
        except RunError as error:
            raise ResumeError(str(error)) from None


class Logs(Listener):
    """Keeps how long the logs are at a checkpoint, and cuts them to that when a run goes on."""

    def __init__(self, directory: RunDirectory, resumption: Resumption | None) -> None:
        self.directory = directory
        self.resumption = resumption

    def state_dict(self) -> dict[str, Any]:
        return self.directory.log_positions()

    def flush(self) -> None:
        self.directory.sync_logs()

    def load_state_dict(self, state: Any) -> None:
        if self.resumption is not None:
            self.resumption.found(state)
