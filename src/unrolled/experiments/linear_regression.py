"""The linear-regression experiment: known weights recovered from noisy examples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled import frameworks
from unrolled.errors import check_fit, check_floating
from unrolled.experiments.context import Context
from unrolled.experiments.settings import saved, setting
from unrolled.parameters import shapes_of
from unrolled.runs.progress import TrainingProgress, say

TRUE_W, TRUE_B = [2.0, -3.4], 4.2


@dataclass(frozen=True)
class Settings:
    """Settings of ``linear-regression``; the defaults are the published run."""

    scratch: bool = setting(True, "written out; false: the framework's layer, loss and optimizer")
    lr: float = setting(0.03, "learning rate", above=0)
    max_epochs: int = setting(3, "passes over the training examples", least=1, may_change=True)
    batch_size: int = setting(32, "examples of a minibatch", least=1)
    sigma: float = setting(0.01, "standard deviation of the initial weights", least=0)
    noise: float = setting(0.01, "standard deviation of the noise on y", least=0)
    num_train: int = setting(1000, "training examples", least=1, most=10**8)
    num_val: int = setting(1000, "validation examples; 0 skips", least=0, most=10**8)


def load_data(shell: Any, settings: Settings, seed: int) -> Any:
    """Examples of the known weights."""
    names = ("noise", "num_train", "num_val", "batch_size")
    options = {name: getattr(settings, name) for name in names}
    return shell.SyntheticRegressionData(TRUE_W, TRUE_B, seed=seed, **options)


def build(shell: Any, settings: Settings, seed: int) -> Any:
    """The untrained model."""
    if settings.scratch:
        return shell.LinearRegressionScratch(len(TRUE_W), settings.lr, settings.sigma, seed=seed)
    return shell.LinearRegression(settings.lr, settings.sigma)


def checked(config: Mapping[str, Any], values: Mapping[str, Any], tokens: Any = None) -> Settings:
    """The settings of a run whose parameters are those of the model; else a `ParameterError`."""
    check_fit({"w": (len(TRUE_W), 1), "b": (1,)}, shapes_of(values))
    check_floating(values)
    return saved(Settings, config)


def restore(framework: str, config: Mapping[str, Any], values: Any, tokens: Any = None) -> Any:
    """The trained model of a framework, whichever trained it; there is no vocabulary."""
    checked(config, values)
    return rebuild(framework, config).import_parameters(values)


def rebuild(framework: str, config: Mapping[str, Any], tokens: Any = None) -> Any:
    """The model of a run in any framework, with all its parameters, which are to be replaced."""
    settings, shell = saved(Settings, config), frameworks.load(framework)
    model = build(shell, settings, seed=0)
    # a layer makes its parameters when it sees its inputs
    return shell.Trainer(max_epochs=1).build(model, load_data(shell, settings, seed=0))


def run(context: Context, settings: Settings) -> None:
    """Train, and compare what was learned with the truth."""
    shell, seed = context.shell, context.seed
    shell.backend.seed(seed)
    data, model = load_data(shell, settings, seed), build(shell, settings, seed)
    trainer = shell.Trainer(settings.max_epochs)
    report = TrainingProgress(
        fields=lambda epoch: {"loss": epoch.loss, "val_loss": epoch.val_loss},
        line=lambda epoch: (
            f"loss {epoch.loss:.6f}"
            + ("" if epoch.val_loss is None else f"  validation {epoch.val_loss:.6f}")
        ),
        every=max(1, settings.max_epochs // 10),
        targets="examples",
    )
    context.begin(settings)
    context.fit(trainer, model, data, report)
    context.finish(summarize(context, settings, trainer.bound_model, report))


def summarize(
    context: Context, settings: Settings, model: Any, report: TrainingProgress
) -> dict[str, Any]:
    """The result as data, told in words on the way."""
    to_numpy = context.shell.backend.to_numpy
    w = [float(value) for value in np.ravel(to_numpy(model.w))]
    b = float(np.ravel(to_numpy(model.b))[0])
    error_w = [true - learned for true, learned in zip(TRUE_W, w, strict=True)]
    error_b = TRUE_B - b
    say(f"\nlearned w = [{w[0]:.4f}, {w[1]:.4f}], b = {b:.4f}")
    say(f"error (true minus learned) in w: {error_w[0]:.4f}, {error_w[1]:.4f}; in b: {error_b:.4f}")
    if report.last is not None:
        say(explain(settings, report.last.epoch))
    return {
        "epochs": report.last.epoch if report.last else 0,
        "w": w,
        "b": b,
        "error_w": error_w,
        "error_b": error_b,
        "loss": report.last.loss if report.last else None,
    }


def explain(settings: Settings, epochs: int) -> str:
    """Say why the errors have the size they have."""
    updates = epochs * math.ceil(settings.num_train / settings.batch_size)
    # the framework's squared error lacks the half, so its gradient is twice as long
    rate, shown = (settings.lr, "") if settings.scratch else (2 * settings.lr, "2 x ")
    left = abs(1 - rate) ** updates
    if left >= 1:
        return f"At lr {settings.lr:g} the steps are too long to settle; try a smaller one."
    num_parameters = len(TRUE_W) + 1
    if settings.num_train < num_parameters:
        examples = "1 example" if settings.num_train == 1 else f"{settings.num_train} examples"
        return (
            f"{examples} for {num_parameters} parameters: fewer examples than parameters cannot "
            "recover them,\nhowever long the training is. Give more: --set num_train=1000"
        )
    if left > 0.001:
        enough = math.ceil(epochs * math.log(0.001) / math.log(left))
        few = "1 epoch is" if epochs == 1 else f"{epochs} epochs are"
        return (
            f"From zero, {updates} updates at lr {settings.lr:g} leave about "
            f"(1 - {shown}{settings.lr:g})^{updates} = {left:.1%} of each parameter\n"
            f"unlearned: {few} few. More bring the errors down to the noise:\n"
            f"--set max_epochs={max(10, enough)}"
        )
    return (
        f"After {updates} updates nothing of the start is left; what remains is the noise of the "
        f"{settings.num_train:,} examples,\nabout {settings.noise:g} / sqrt({settings.num_train}) "
        f"= {settings.noise / math.sqrt(settings.num_train):.4f} for each parameter, and the "
        "unrest of minibatches."
    )
