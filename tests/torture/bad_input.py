"""Resume what cannot be resumed, or not exactly: each has an error that says what to do."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from torture.outcome import Options, Outcome
from torture.processes import at, call, send
from torture.runs import PLANS, Attempt, Plan, Reference, content, differences
from unrolled.checkpoints import mark

STOP = [(at, "on_step", 14, send, signal.SIGTERM)]


def run(options: Options) -> Outcome:
    """Try everything that is refused, then everything that goes on."""
    outcome = Outcome("bad input")
    reference = Reference(PLANS["rnn"], options.frameworks[0], options.folder)
    kept = reference.new("kept")
    kept.start(patches=STOP)
    for name, (spoil, arguments, expected) in REFUSED.items():
        attempt = reference.new("spoiled")
        shutil.copytree(kept.path, attempt.path)
        spoil(attempt.path)
        before = content(attempt.path) if attempt.path.is_dir() else {}
        ended = attempt.resume(*arguments)
        said = ended.is_error and expected in ended.text
        outcome.check(said, f"{name}: {ended.code}, {ended.text[-500:]}")
        after = content(attempt.path) if attempt.path.is_dir() else {}
        outcome.check(before == after, f"{name} changes {differences(before, after)}")
        remove(attempt)
    finished(outcome, reference)
    other_text(outcome, reference, kept)
    surroundings(outcome, reference, kept)
    changed_settings(outcome, reference, kept)
    epochs(outcome, reference)
    outcome.figures = f"{outcome.cases} checks"
    return outcome


def remove(attempt: Attempt) -> None:
    attempt.path.unlink() if attempt.path.is_file() else attempt.remove()


def in_config(**values: object) -> Callable[[Path], None]:
    """Change what ``config.json`` says; of ``settings`` only those that are named."""

    def change(run: Path) -> None:
        file = run / "config.json"
        config = json.loads(file.read_text())
        for name, value in values.items():
            config[name] = {**config[name], **value} if isinstance(value, dict) else value
        file.write_text(json.dumps(config, indent=2) + "\n")

    return change


def to_link(name: str) -> Callable[[Path], None]:
    """Move a file or folder away and leave a link to it."""

    def change(run: Path) -> None:
        for path in run.glob(name):
            target = run / f"moved-{path.name}"
            path.rename(target)
            path.symlink_to(target.absolute())

    return change


def other_format(run: Path) -> None:
    """Have all checkpoints be of a later format."""
    for file in run.glob("checkpoints/*/complete.json"):
        about = json.loads(file.read_text())
        del about["sha256"]
        about |= {"format": mark.FORMAT + 1, "unrolled": "9.0"}
        file.write_text(json.dumps({**about, "sha256": mark._digest(about)}))


def emptied(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


def to_file(run: Path) -> None:
    shutil.rmtree(run)
    run.write_text("no folder")


def no_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def nothing(run: Path) -> None:
    """Leave the run as it is."""


REFUSED: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "another experiment": (nothing, ("digit-sum",), "experiment language-model, not digit-sum"),
    "another framework": (nothing, ("--framework", "numpy"), "unrolled convert"),
    "another seed": (nothing, ("--seed", "3"), "seed 0, not 3"),
    "another format": (other_format, (), "reads format 1. Use the version that wrote it"),
    "an experiment that is unknown": (in_config(experiment="xor"), (), "unknown experiment 'xor'"),
    "a framework that is unknown": (in_config(framework="caffe"), (), "unknown framework 'caffe'"),
    "a setting that no longer exists": (in_config(settings={"momentum": 1}), (), "momentum"),
    "a setting of another type": (in_config(settings={"lr": "big"}), (), "lr is 'big'"),
    "a run of watch": (in_config(experiment="watch"), (), "watch"),
    "a checkpoints folder that is a link": (to_link("checkpoints"), (), "is a link"),
    "checkpoints that are links": (to_link("checkpoints/step-*"), (), "is a link"),
    "files that are links": (to_link("checkpoints/step-*/model.safetensors"), (), "is a link"),
    "a log that is a link": (to_link("metrics.jsonl"), (), "metrics.jsonl"),
    "no checkpoints": (no_checkpoints, (), "no whole checkpoint"),
    "no directory": (shutil.rmtree, (), "is not a run directory: there is no such directory"),
    "an empty directory": (emptied, (), "config.json missing"),
    "a file": (to_file, (), "is not a run directory: it is a file"),
    "another learning rate": (nothing, ("--set", "lr=2"), "lr is 2.0 and was 1.0"),
    "another size": (nothing, ("--set", "num_hiddens=7"), "num_hiddens is 7 and was 6"),
    "another size, forced": (nothing, ("--set", "num_hiddens=7", "--force"), "fit"),
    "an unknown setting": (nothing, ("--set", "lrr=2"), "did you mean 'lr'"),
    "fewer epochs": (nothing, ("--set", "max_epochs=1"), "max_epochs is 1"),
    "a place": (nothing, ("--out", "elsewhere"), "leave out --out"),
    "a schedule that makes no sense": (nothing, ("--checkpoint", "every=2moons"), "moons"),
}
"""What was done to a run, arguments of the command that resumes it, and what the error says."""


def finished(outcome: Outcome, reference: Reference) -> None:
    """A finished run is refused, and left as it is."""
    attempt = reference.new("none")
    attempt.path = reference.path
    ended = attempt.resume()
    said = ended.is_error and "is finished. To add epochs: unrolled run --resume" in ended.text
    outcome.check(said and not attempt.wrong(), f"finished: {ended.text}")


def other_text(outcome: Outcome, reference: Reference, kept: Attempt) -> None:
    """The text that it is trained on was edited meanwhile, with the same letters."""
    text = reference.folder / "text.txt"
    before = text.read_text()
    text.write_text(before.replace("time", "emit"))
    ended = copied(reference, kept).resume()
    text.write_text(before)
    said = ended.is_error and "the training data are others" in ended.text
    outcome.check(said, f"another text: {ended.text[-500:]}")


def copied(reference: Reference, kept: Attempt) -> Attempt:
    attempt = reference.new("copied")
    shutil.copytree(kept.path, attempt.path)
    return attempt


def surroundings(outcome: Outcome, reference: Reference, kept: Attempt) -> None:
    """Other threads, another instruction set: refused, and done with ``--force``."""
    for name, value in {"OMP_NUM_THREADS": "2", "UNROLLED_NATIVE": "portable"}.items():
        attempt = copied(reference, kept)
        command = [sys.executable, "-m", "unrolled", *attempt.again]
        outside = {**os.environ, name: value}
        for more, code, expected in (
            ([], 2, "error: not exact, because "),
            (["--force"], 0, "not exact, because "),
        ):
            ended = subprocess.run(
                [*command, *more], env=outside, capture_output=True, text=True, check=False
            )
            text = ended.stdout + ended.stderr
            right = ended.returncode == code and expected in text and "Traceback" not in text
            outcome.check(right, f"{name}={value} {more}: {ended.returncode}, {text[-700:]}")
        attempt.remove()


def changed_settings(outcome: Outcome, reference: Reference, kept: Attempt) -> None:
    """Settings that change numbers need ``--force``; others do not."""
    for change, arguments in {
        "clipping": ("--set", "gradient_clip_val=0.1", "--force"),
        "prefix": ("--set", "prefix=traveller"),
        "schedule": ("--checkpoint", "every=1epoch"),
        "no checkpoints": ("--checkpoint", "off"),
    }.items():
        attempt = copied(reference, kept)
        ended = attempt.resume(*arguments)
        same = content(attempt.path)["model.safetensors"] == reference.content["model.safetensors"]
        right = ended.code == 0 and same == ("--force" not in arguments)
        outcome.check(right, f"other {change}: {ended.code}, same {same}, {ended.text[-500:]}")
        attempt.remove()


def epochs(outcome: Outcome, reference: Reference) -> None:
    """A finished or stopped run that gets more epochs is one that had them from the beginning."""
    plan = reference.plan
    longer = Plan(plan.experiment, plan.checkpoint, plan.settings.replace("=3", "=5"))
    long = Reference(longer, reference.framework, reference.folder / "long")
    for patches in ([], STOP):
        attempt = long.new("short")
        short = plan.arguments(reference.framework, attempt.path)
        call(*short, log=attempt.log, patches=patches)
        ended = attempt.resume("--set", "max_epochs=5")
        wrong = differences(long.content, content(attempt.path))
        outcome.check(ended.code == 0 and not wrong, f"more epochs: {wrong} {ended.text[-500:]}")
        attempt.remove()
