"""The command ``unrolled run``: parsing only."""

import sys
from pathlib import Path

import click

from unrolled.arguments import PATH, WHOLE, Command, Number
from unrolled.errors import SettingError
from unrolled.output import silence

FROM_1 = Number(int, least=1, most=1024)


@click.command(cls=Command)
@click.argument("experiment", required=False)
@click.option("--framework", help="Framework to run on.  [default: torch]")
@click.option("--seed", type=WHOLE, help="Seed of all random draws.  [default: 0]")
@click.option(
    "--out",
    type=PATH,
    help="Run directory to make.  [default: runs/EXPERIMENT-1, -2, ...]",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting; `unrolled list` has them all. Can be given many times.",
)
@click.option(
    "--log",
    multiple=True,
    metavar="TRACKER",
    help="Keep the records for other programs, too: csv or tensorboard.",
)
@click.option(
    "--checkpoint",
    metavar="WHEN",
    help="When to save all that is needed to go on: every=1000steps, every=5epochs, every=10min, "
    "or off. every=5epochs,keep=3 keeps the last three and the best.  [default: every=1min; "
    "of a resumed run as before]",
)
@click.option(
    "--resume",
    type=PATH,
    metavar="RUN",
    help="Go on with a run that was stopped or killed, from its newest checkpoint; or, with "
    "--set max_epochs=NUMBER, with one that is finished.",
)
@click.option("--force", is_flag=True, help="Resume even where the result cannot be the same.")
@click.option(
    "--processes",
    type=FROM_1,
    help="Train by so many processes of this machine, which share every minibatch (torch, jax); "
    "on several machines start them with torchrun: docs/scale.md.",
)
@click.option(
    "--devices",
    type=FROM_1,
    default=1,
    help="Let so many devices of a process share every minibatch (jax, tensorflow): its GPUs, or "
    "as many parts of its processor.",
)
def run(
    experiment: str | None,
    framework: str | None,
    seed: int | None,
    out: Path | None,
    assignments: tuple[str, ...],
    log: tuple[str, ...],
    checkpoint: str | None,
    resume: Path | None,
    force: bool,
    processes: int | None,
    devices: int,
) -> None:
    """Run an EXPERIMENT and keep it in a run directory, or go on with a run.

    A run that takes longer than a minute saves checkpoints. If it is stopped or killed, --resume
    goes on from the newest one, and the result is to the byte that of a run without a break. Where
    that is not so, because settings, versions or threads have changed, it says why; --force goes on
    all the same.

    \b
    Examples:
      unrolled run linear-regression
      unrolled run linear-regression --set max_epochs=10
      unrolled run language-model --seed 1 --out runs/first
      unrolled run language-model --set model=lstm --set max_epochs=100
      unrolled run language-model --set text=mybook.txt --set max_tokens=50000
      unrolled run digit-sum --set cells=srn,gru,lstm --set lengths=10,20
      unrolled run gradient-explosion --seed 1
      unrolled run language-model --log tensorboard
      unrolled run language-model --checkpoint every=5epochs,keep=3
      unrolled run --resume runs/language-model-1
      unrolled run --resume runs/language-model-1 --set max_epochs=600
      unrolled run language-model --processes 2
    """
    from unrolled import experiments
    from unrolled.processes.launch import launch
    from unrolled.processes.place import place_from_environment

    place = place_from_environment()
    if processes is not None and place is not None and place.size != processes:
        raise SettingError(
            f"this is one of {place.size} processes that were started together; leave out "
            f"--processes {processes}"
        )
    if processes is not None and processes > 1 and place is None:
        parts = processes * devices
        experiments.check_before_launch(
            experiment, assignments, framework or "torch", parts, resume
        )
        sys.exit(launch(processes, sys.argv[1:]))
    if place is not None and place.rank > 0:
        silence(sys.stdout)  # process 0 says all there is to say

    if resume is None:
        if experiment is None:
            names = ", ".join(experiments.EXPERIMENTS)
            raise SettingError(
                f"'EXPERIMENT' is missing: name one of {names}; or go on with a run: --resume RUN"
            )
        if force:
            raise SettingError("--force is for --resume RUN; leave it out")
        experiments.run(
            experiment, assignments, framework or "torch", seed or 0, out, log, checkpoint, devices
        )
        return
    if out is not None:
        raise SettingError("a run that is resumed stays where it is; leave out --out")
    given = {"experiment": experiment, "framework": framework, "seed": seed}
    experiments.resume(resume, assignments, force, log, checkpoint, given, devices)
