"""The language-model experiment: an RNN, GRU or LSTM on *The Time Machine* or another text."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from unrolled import frameworks
from unrolled.data.shards import Shards
from unrolled.data.text import clean, read_text, time_machine
from unrolled.data.text_files import TextFiles
from unrolled.data.vocabulary import Vocab
from unrolled.errors import (
    MissingFrameworkError,
    ParameterError,
    RunError,
    SettingError,
    check_fit,
    check_floating,
)
from unrolled.experiments.compile_once import CompileOnce
from unrolled.experiments.context import Context
from unrolled.experiments.language_model_settings import Settings, complete
from unrolled.experiments.settings import saved
from unrolled.functional.losses import perplexity
from unrolled.kernels import check_engine, chosen
from unrolled.models.generation import check_prefix, generate, generate_batch
from unrolled.models.weights import parameter_shapes
from unrolled.output import printable
from unrolled.parameters import check_finite, shapes_of
from unrolled.runs.directory import RunDirectory
from unrolled.runs.progress import TrainingProgress, say, shown
from unrolled.telemetry.findings.losses import is_memorized
from unrolled.telemetry.recorder import period
from unrolled.training.evaluation import mean_cross_entropy
from unrolled.training.not_finite import check_rollback
from unrolled.training.truncation import Truncation
from unrolled.untrusted import memory

PUBLISHED_PREFIXES = ("time traveller", "traveller")
PREFIX_LENGTH = 15
SAMPLE_LENGTH = 50
SAMPLE_EVERY_EPOCHS = 10

SHOWN_AFTER_S = 2.0
"""Seconds of reading a text from which it is shown how far it is."""

MOST_MEASURED = 10_000_000
"""Characters of the held-out tenth that are measured. Their mean loss is known to about 0.001 nats
then; to measure a gigabyte would take as long as a tenth of an epoch."""


def load_text(settings: Settings) -> str | TextFiles:
    """The text to learn; that of files stays there, as it may be larger than memory."""
    if settings.text is None:
        text = time_machine()
    else:
        # a comma may be part of a name
        paths = [settings.text] if os.path.exists(settings.text) else settings.text.split(",")
        if len(paths) > 1 or os.path.isfile(paths[0]) or os.path.isdir(paths[0]):
            show = partial(shown, after_s=SHOWN_AFTER_S)
            return TextFiles(paths, clean=bool(settings.clean), going_through=show)
        # a pipe, which can be read only once, or nothing that can be read at all
        text = read_text(paths[0])
    return clean(text) if settings.clean else text


def choose_prefixes(settings: Settings, text: str | TextFiles) -> tuple[str, ...]:
    """What to continue: what was asked for, else the books' two, else the text's start."""
    if settings.prefix is not None:
        return (settings.prefix,)
    if settings.text is None:
        return PUBLISHED_PREFIXES
    start = ""
    for piece in [text] if isinstance(text, str) else text:
        start = (start + piece).lstrip()
        if len(start) >= PREFIX_LENGTH:
            break
    return (start.splitlines()[0][:PREFIX_LENGTH],)


def check_memory(cell: str, num_layers: int, vocab_size: int, num_hiddens: int) -> None:
    """Refuse a model for which the machine has no memory: the system would end the program.

    Its weights, their gradients and the copy for a divergence are float32 each.
    """
    one, two = (
        sum(map(math.prod, parameter_shapes(cell, layers, vocab_size, num_hiddens).values()))
        for layers in (1, 2)
    )
    needed = 3 * 4 * (one + (num_layers - 1) * (two - one))
    there = memory()
    if there is not None and needed > there:
        raise SettingError(
            f"num_hiddens={num_hiddens:,} in num_layers={num_layers:,} with {vocab_size:,} kinds "
            f"of characters needs {needed / 2**30:,.0f} GiB to train, and this machine has "
            f"{there / 2**30:,.0f}; take fewer num_hiddens or num_layers"
        )


def build(shell: Any, settings: Settings, vocab_size: int, seed: int) -> Any:
    """The untrained model of complete settings, in the framework of the public module ``shell``."""
    check_memory(settings.model, settings.num_layers, vocab_size, settings.num_hiddens or 0)
    gpus = shell.backend.devices(1)
    device = (gpus or [shell.backend.cpu()])[0] if settings.num_gpus else None
    if not settings.scratch:
        layer = shell.recurrent_layer(
            settings.model, vocab_size, settings.num_hiddens, settings.num_layers
        )
        return shell.backend.to_device(shell.RNNModel(layer, vocab_size, lr=settings.lr), device)
    return shell.LanguageModel(
        vocab_size,
        settings.num_hiddens,
        settings.model,
        settings.num_layers,
        lr=settings.lr,
        seed=seed,
        device=device,
        engine=settings.engine,
        precision=settings.precision,
    )


def used(
    settings: Settings, framework: str, prefixes: Sequence[str], data: Any, device: Any
) -> dict[str, Any]:
    """The values that open settings came to, by name; ``device`` None is the CPU."""
    steps = settings.max_epochs * len(data.get_dataloader(train=True))
    engine = chosen(framework, settings.engine, device is not None)
    return {
        "text": "The Time Machine" if settings.text is None else settings.text,
        "max_tokens": len(data.train_ids),
        "prefix": list(prefixes),
        "back_steps": settings.back_steps or settings.num_steps,
        "telemetry_every": period(settings.telemetry_every, steps),
        "engine": engine if settings.scratch else f"the layer of {framework}",
        "num_gpus": int(device is not None),
    }


def run(context: Context, settings: Settings) -> None:
    """Train, measure on held-out text, and let the model write."""
    settings = complete(settings)
    check_rollback(settings.on_nonfinite, context.schedule)
    if not settings.scratch and (settings.engine, settings.precision) != ("auto", "float32"):
        raise SettingError(
            f"engine={settings.engine} and precision={settings.precision} are of a model written "
            "out, and scratch=false takes the framework's own layer; leave out one of them"
        )
    text = load_text(settings)
    shell, seed = context.shell, context.seed
    shell.backend.seed(seed)
    data = shell.TextData(
        text,
        settings.batch_size,
        settings.num_steps,
        settings.use_random_iter,
        settings.max_tokens,
        seed,
        settings.back_steps,
    )
    prefixes = choose_prefixes(settings, text)
    before = context.used_before("prefix")
    if before and before[0] == prefixes[0]:  # both of the books' two, though one is a setting now
        prefixes = tuple(before)
    settings = replace(settings, prefix=prefixes[0])
    for prefix in prefixes:
        check_prefix(data.vocab, prefix)
    context.check_same_data(data)
    model = build(shell, settings, len(data.vocab), seed)
    trainer = shell.Trainer(
        settings.max_epochs,
        settings.num_gpus,
        settings.gradient_clip_val,
        gradient_clip_method=settings.gradient_clip_method,
        truncation=Truncation(settings.state, settings.back_steps, settings.state_sigma, seed),
        on_nonfinite=settings.on_nonfinite,
    )
    device = trainer.gpus[0] if trainer.gpus else None
    if settings.num_gpus and device is None:
        say(f"{frameworks.FRAMEWORKS[context.framework]} sees no GPU here: training on the CPU")
    check_engine(settings.engine, context.framework, device is not None)

    compiled = CompileOnce(shell.backend)

    def write(prefix: str) -> str:
        net = trainer.bound_model
        how = {"device": device, "forward": compiled(net)}
        return generate(shell.backend, net, data.vocab, prefix, SAMPLE_LENGTH, **how)

    report = TrainingProgress(
        fields=lambda epoch: {"loss": epoch.loss, "perplexity": perplexity(epoch.loss)},
        line=lambda epoch: f"perplexity {perplexity(epoch.loss):.3f}",
        every=SAMPLE_EVERY_EPOCHS if settings.max_epochs >= SAMPLE_EVERY_EPOCHS else 1,
        targets="tokens",
        sample=lambda: [printable(write(prefixes[0]))],
    )
    unseen = data.heldout_ids[:MOST_MEASURED]
    whole = len(unseen) == len(data.heldout_ids)
    measured = "" if whole else f"the first {len(unseen):,} of these to measure on, "
    vocabulary = {"vocabulary.json": data.vocab.idx_to_token}
    context.begin(settings, vocabulary, used(settings, context.framework, prefixes, data, device))
    say(
        f"{settings.model}, {settings.num_hiddens} hidden units, "
        f"{'from scratch' if settings.scratch else 'the layer of ' + context.framework}: "
        f"{len(data.train_ids):,} characters to train on, {len(data.heldout_ids):,} held out, "
        f"{measured}{len(data.vocab)} in the vocabulary"
    )
    if isinstance(data.train_ids, Shards):
        say(where_kept(data.train_ids))
    context.fit(trainer, model, data, report, telemetry_every=settings.telemetry_every)
    net, sizes = trainer.bound_model, (settings.batch_size, settings.num_steps)
    through = context.going_through("measuring on text that it has not seen")
    heldout = mean_cross_entropy(shell.backend, net, unseen, *sizes, device, through)
    summary: dict[str, Any] = {
        "epochs": report.last.epoch if report.last else 0,
        "perplexity": perplexity(report.last.loss) if report.last else None,
        "heldout_perplexity": None if heldout is None else perplexity(heldout),
        "tokens_per_s": report.targets_per_s(),
        "samples": {prefix: write(prefix) for prefix in prefixes},
    }
    say("\n" + explain(summary, len(data.train_ids), len(unseen), len(data.vocab)))
    for sample in summary["samples"].values():
        say(f"  {printable(sample)}")
    context.finish(summary)


def where_kept(ids: Shards) -> str:
    """Say where the ids of a text are, and how large they are."""
    size = sum(part.nbytes for part in ids.parts)
    folder = printable(str(ids.folder))
    return f"the text's ids ({math.ceil(size / 1e6):,} MB) are kept for the next run in {folder}"


def explain(summary: dict[str, Any], num_train: int, num_heldout: int, vocab_size: int) -> str:
    """What the two perplexities say.

    Example:
        >>> result = {"perplexity": 1.04, "heldout_perplexity": 21.3, "tokens_per_s": 6e4}
        >>> print(explain(result, 10000, 17058, 28))
        perplexity 1.04 on the 10,000 characters of training, 21.3 on 17,058 characters never seen
        (28 would be guessing); 60,000 tokens/s
        A training perplexity near 1 means that the passage is memorised: given its beginning,
        the network recites it. It has not learned to write; the held-out perplexity shows that.
    """
    trained, heldout = summary["perplexity"], summary["heldout_perplexity"]
    if trained is None:
        return "stopped before the first epoch was complete; the model is as good as untrained"
    unseen = "" if heldout is None else f", {heldout:.3g} on {num_heldout:,} characters never seen"
    speed = summary["tokens_per_s"]  # None: all of it was trained by a process before this one
    lines = (
        f"perplexity {trained:.3g} on the {num_train:,} characters of training{unseen}\n"
        f"({vocab_size} would be guessing)" + (f"; {speed:,.0f} tokens/s" if speed else "")
    )
    if heldout is not None and is_memorized(trained, heldout):
        worse = ":\non text it has never seen it does worse than guessing."
        lines += (
            "\nA training perplexity near 1 means that the passage is memorised: given its "
            "beginning,\nthe network recites it. It has not learned to write; the held-out "
            "perplexity shows that" + (worse if heldout > vocab_size else ".")
        )
    return lines


@dataclass(frozen=True)
class Trained:
    """A trained language model as a run has left it."""

    shell: Any  # the framework's public module
    model: Any
    vocab: Vocab
    prefix: str  # what the run itself continued

    def write(self, prefixes: Sequence[str | None], length: int, **options: Any) -> list[str]:
        """Continue texts (None: the run's own prefix); options as of `generate_batch`."""
        texts = [self.prefix if prefix is None else prefix for prefix in prefixes]
        return generate_batch(self.shell.backend, self.model, self.vocab, texts, length, **options)


def load(path: Path) -> Trained:
    """Take a trained model out of its run directory.

    Raises:
        RunError: the run is incomplete, damaged, no language model, or its weights are no numbers.
        MissingFrameworkError: its framework is not installed.
    """
    directory, config = open_run(path)
    tokens = directory.read_json("vocabulary.json")
    with directory.telling_damage():
        values = directory.load_model()
        try:
            trained = restore(config["framework"], config, values, tokens)
        except MissingFrameworkError as error:
            here = next(filter(frameworks.is_installed, frameworks.FRAMEWORKS), "FRAMEWORK")
            raise MissingFrameworkError(
                f"{error}; or carry the run to {here}: unrolled convert {path} --to {here} "
                "--out NEW"
            ) from None
    check_finite(path, values)
    return trained


def open_run(path: Path) -> tuple[RunDirectory, dict[str, Any]]:
    """The directory of a language model's run, and its ``config.json``; else a `RunError`."""
    directory = RunDirectory.open(path)
    config = directory.read_config()
    if config["experiment"] != "language-model":
        raise RunError(f"'{path}' is a run of {config['experiment']}; a language-model is needed")
    return directory, config


def checked(config: Mapping[str, Any], values: Mapping[str, Any], tokens: Any) -> Settings:
    """The settings of a run whose parameters and vocabulary fit them; else a `ParameterError`."""
    are_tokens = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
    if not are_tokens or not tokens or len(set(tokens)) < len(tokens):
        raise ParameterError("vocabulary.json is missing, or no list of tokens that all differ")
    settings = complete(saved(Settings, config))
    if settings.num_layers > max(1, len(values)):
        raise ParameterError(
            "the values do not fit the model: "
            f"{len(values)} parameters are too few for {settings.num_layers} layers"
        )
    shape = settings.model, settings.num_layers, len(tokens), settings.num_hiddens or 0
    check_fit(parameter_shapes(*shape), shapes_of(values))
    check_floating(values)
    return settings


def restore(framework: str, config: Mapping[str, Any], values: Any, tokens: Any) -> Trained:
    """The trained model of a framework, whichever trained it; arguments as of `checked`."""
    settings = checked(config, values, tokens)
    model = rebuild(framework, config, tokens).import_parameters(values)
    shell = frameworks.load(framework)
    return Trained(shell, model, Vocab.from_list(tokens), settings.prefix or "")


def rebuild(framework: str, config: Mapping[str, Any], tokens: Any) -> Any:
    """The model of a run in any framework, with all its parameters, which are to be replaced."""
    settings = complete(saved(Settings, config))
    shell = frameworks.load(framework)
    # on the CPU, where there is no Triton
    engine = "auto" if settings.engine == "triton" else settings.engine
    model = build(shell, replace(settings, num_gpus=0, engine=engine), len(tokens), seed=0)
    return shell.Trainer(max_epochs=1).build(model, None)
