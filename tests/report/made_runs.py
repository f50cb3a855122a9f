"""Run directories as training would leave them, made from formulas in a moment."""

import json
import math
from pathlib import Path

import numpy as np

from unrolled.parameters import to_bytes

PARAMETERS = {"W_xh": (28, 32), "W_hh": (32, 32), "b_h": (32,), "W_hq": (32, 28), "b_q": (28,)}


def begin(path: Path, experiment: str, seed: int | None = 0, **settings: object) -> dict:
    """Make the directory with what a run writes before it trains; give the head of its summary."""
    path.mkdir(parents=True)
    head = {"experiment": experiment, "framework": "torch", "seed": seed}
    dump(path, "config", {**head, "settings": settings})
    framework = {"name": "torch", "version": "2.13.0", "devices": ["cpu"]}
    dump(path, "environment", {"unrolled": "0.1.0", "python": "3.11.7", "framework": framework})
    return {**head, "status": "finished"}


def language_model(
    path: Path,
    *,
    epochs: int = 40,
    steps_per_epoch: int = 8,
    num_steps: int = 35,
    layers: tuple[str, ...] = ("layers.0",),
    telemetry: bool = True,
    border: int = 0,
    seed: int = 0,
    **settings: object,
) -> Path:
    """A run whose perplexity falls, whose gradient grows, is clipped, and fades back in time."""
    rng = np.random.default_rng(seed)
    chosen = {"model": "rnn", "num_hiddens": 32, "num_steps": num_steps, "lr": 1.0,
              "gradient_clip_val": 1.0, "max_epochs": epochs, "max_tokens": 10000,
              "text": None, "clean": True, **settings}  # fmt: skip
    summary = begin(path, "language-model", seed, **chosen)
    dump(path, "vocabulary", list("abcdefghijklmnopqrstuvwxyz <"))
    metrics, records, steps = [], [], epochs * steps_per_epoch
    for epoch in range(1, epochs + 1):
        loss = 3.3 * math.exp(-3 * epoch / epochs) + 0.05
        norms = []
        for step in range((epoch - 1) * steps_per_epoch + 1, epoch * steps_per_epoch + 1):
            norms.append(float(0.2 + 6 * step / steps * rng.lognormal(0, 0.6)))
            if telemetry:
                fades = layer(rng, num_steps, border, step / steps)
                numbers = record(step, norms[-1], 1.0, PARAMETERS, dict.fromkeys(layers, fades))
                records.append({**numbers, "epoch": epoch, "loss": loss})
        measured = {"loss": loss, "perplexity": math.exp(loss)}
        measured |= {"gradient_norm": float(np.mean(norms)), "gradient_norm_max": max(norms),
                     "clipped_norm": float(np.mean(np.minimum(norms, 1)))}  # fmt: skip
        metrics.append({"epoch": epoch, "step": epoch * steps_per_epoch, **measured})
    write_lines(path / "metrics.jsonl", metrics)
    if telemetry:
        write_lines(path / "telemetry.jsonl", records)
    summary |= {"epochs": epochs, "perplexity": math.exp(loss), "heldout_perplexity": 21.3}
    text = "time traveller for so it will be <convenient> to speak"
    dump(path, "summary", {**summary, "tokens_per_s": 61234.5, "samples": {"traveller": text}})
    model(path, rng)
    return path


def layer(rng, T, border, share):
    """A gradient that fades on its way back, by a factor that grows with the share of training."""
    fall = 0.55 + 0.37 * share + 0.02 * float(rng.normal())
    back = np.arange(T - 1, -1, -1)  # steps back from the last
    mean = 0.02 * fall**back * rng.lognormal(0, 0.15, T)
    mean[:border] = 1e-12 * mean[:border]
    reach = int(np.argmax(mean[::-1] < 0.01 * mean[-1])) if (mean < 0.01 * mean[-1]).any() else T
    return {
        "hidden_gradient_mean": mean.tolist(),
        "hidden_gradient_max": (3 * mean).tolist(),
        "decay_per_step": fall,
        "horizon_steps": reach,
        "saturated": min(0.6, 0.7 * share),
        "weight_gradient_per_step": (mean * 4).tolist(),
        "truncation_points": [border],
    }


def record(step, norm, threshold, names, layers):
    """A line of telemetry of a step whose gradient is clipped at a threshold, if there is one."""
    clipped = norm if threshold is None else min(norm, threshold)
    parameters = {
        name: {
            "gradient_norm": norm / (i + 1),
            "clipped_norm": clipped / (i + 1),
            "weight_norm": 5.0 + step / 100,
            "update_ratio": clipped / (i + 1) / 200,
        }
        for i, name in enumerate(names)
    }
    return {
        "step": step,
        "gradient_norm": norm,
        "clipped_norm": clipped,
        "clip_coefficient": clipped / norm if norm else 1.0,
        "clip_method": None if threshold is None else "global_norm",
        "clip_threshold": threshold,
        "parameters": parameters,
        "layers": layers,
    }


def watched(path: Path, steps: int = 20, bad=(), names=("weight", "bias"), rate=0.1, loss=True):
    """What `watch` leaves: no epochs, no weights; the steps in ``bad`` were NaN.

    ``rate(step)`` may be a number or a list, of parameter groups.
    """
    rng = np.random.default_rng(steps)
    summary = begin(path, "watch", None, model="Net", every=1, clips_at=None)
    lines = []
    for step in range(1, steps + 1):
        line = record(step, 2.0 / step, 1.0, names, {"rnn": layer(rng, 12, 0, step / steps)})
        rates = rate(step) if callable(rate) else rate
        line["loss"] = 1 / step if loss else None
        line["learning_rate"] = rates[0] if isinstance(rates, list) else rates
        line["learning_rates"] = rates if isinstance(rates, list) else []
        if step in bad:
            line |= {"loss": None, "gradient_norm": None, "first_not_finite": "an input of rnn"}
        lines.append(line)
    write_lines(path / "telemetry.jsonl", lines)
    dump(path, "summary", {**summary, "steps": steps})
    return path


def explosion(path: Path) -> Path:
    """Two models in one run: one explodes and dies, its norms exactly 0; one is clipped."""
    rng = np.random.default_rng(0)
    summary = begin(path, "gradient-explosion", lr=0.2, batch_size=64, length=20)
    lines, records = [], []
    for part, threshold in (("unclipped", None), ("clipped", 20.0)):
        for step in range(1, 101):
            norm = float(rng.lognormal(2.2, 1.1))
            if threshold is None:
                norm *= 1e3 * (step < 10) + (step < 60)
            head = {"part": part, "epoch": step // 5, "step": step, "loss": 3 + 40 * (norm == 0)}
            records.append(head | record(step, norm, threshold, ("W", "U", "b"), {}))
            if step % 5 == 0:
                lines.append({**head, "val_accuracy": 0.09 + 0.02 * float(rng.random())})
    write_lines(path / "metrics.jsonl", lines)
    write_lines(path / "telemetry.jsonl", records)
    peaks = {"W": {"peak": 6.4e3, "step": 6}, "U": {"peak": 4.8e3, "step": 6}}
    accuracies = {"unclipped": 0.08, "clipped": 0.09}
    dump(path, "summary", {**summary, "test_accuracy": accuracies, "explosion": peaks})
    model(path, rng)
    return path


def model(path, rng):
    values = {name: rng.normal(0, 0.3, shape) for name, shape in PARAMETERS.items()}
    arrays = {name: value.astype(np.float32) for name, value in values.items()}
    (path / "model.safetensors").write_bytes(to_bytes(arrays))


def dump(path, name, value):
    (path / f"{name}.json").write_text(json.dumps(value, indent=2))


def change(path, name, **values):
    """Change entries of a JSON file of a run."""
    dump(path, name, json.loads((path / f"{name}.json").read_text()) | values)


def write_lines(file, records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


def read_lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]
