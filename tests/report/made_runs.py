"""Run directories as training would leave them, made from formulas in a moment.

``python tests/report/made_runs.py DIRECTORY`` writes some, to look at their reports.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

from unrolled.parameters import to_bytes

PARAMETERS = {"W_xh": (28, 32), "W_hh": (32, 32), "b_h": (32,), "W_hq": (32, 28), "b_q": (28,)}
ENVIRONMENT = {
    "unrolled": "0.1.0",
    "python": "3.11.7",
    "framework": {"name": "torch", "version": "2.13.0", "devices": ["cpu"]},
}


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
    path.mkdir(parents=True)
    chosen = {"model": "rnn", "num_hiddens": 32, "num_steps": num_steps, "lr": 1.0,
              "gradient_clip_val": 1.0, "max_epochs": epochs, "max_tokens": 10000,
              "text": None, "clean": True, **settings}  # fmt: skip
    dump(path, "config", {"experiment": "language-model", "framework": "torch", "seed": seed,
                          "settings": chosen})  # fmt: skip
    dump(path, "environment", ENVIRONMENT)
    dump(path, "vocabulary", list("abcdefghijklmnopqrstuvwxyz <"))
    metrics, records, step = [], [], 0
    for epoch in range(1, epochs + 1):
        loss = 3.3 * math.exp(-3 * epoch / epochs) + 0.05
        norms = []
        for _ in range(steps_per_epoch):
            step += 1
            share = step / (epochs * steps_per_epoch)
            norm = float(0.2 + 6 * share * rng.lognormal(0, 0.6))
            norms.append(norm)
            if telemetry:
                records.append(
                    record(rng, step, epoch, loss, norm, num_steps, layers, border, share)
                )
        metrics.append(
            {
                "epoch": epoch,
                "step": step,
                "loss": loss,
                "perplexity": math.exp(loss),
                "gradient_norm": float(np.mean(norms)),
                "gradient_norm_max": max(norms),
                "clipped_norm": float(np.mean(np.minimum(norms, 1))),
            }
        )
    write_lines(path / "metrics.jsonl", metrics)
    if telemetry:
        write_lines(path / "telemetry.jsonl", records)
    summary = {
        "experiment": "language-model",
        "framework": "torch",
        "seed": seed,
        "status": "finished",
        "epochs": epochs,
        "perplexity": math.exp(loss),
        "heldout_perplexity": 21.3,
        "tokens_per_s": 61234.5,
        "samples": {"time traveller": "time traveller for so it will be <convenient> to speak"},
    }
    dump(path, "summary", summary)
    model(path, rng)
    return path


def record(rng, step, epoch, loss, norm, T, layers, border, share):
    """One line of telemetry: the gradient fades by a factor that grows with training."""
    clipped = min(norm, 1.0)
    fall = 0.55 + 0.37 * share + 0.02 * float(rng.normal())
    back = np.arange(T - 1, -1, -1)  # steps back from the last
    mean = 0.02 * fall**back * rng.lognormal(0, 0.15, T)
    mean[:border] = 1e-12 * mean[:border]
    reach = int(np.argmax(mean[::-1] < 0.01 * mean[-1])) if (mean < 0.01 * mean[-1]).any() else T
    return {
        "step": step,
        "epoch": epoch,
        "loss": loss,
        "gradient_norm": norm,
        "clipped_norm": clipped,
        "clip_coefficient": clipped / norm,
        "clip_method": "global_norm",
        "clip_threshold": 1.0,
        "parameters": {
            name: {
                "gradient_norm": norm * part,
                "clipped_norm": clipped * part,
                "weight_norm": 5.0 + step / 100,
                "update_ratio": clipped * part / 200,
                "finite": True,
            }
            for name, part in zip(PARAMETERS, (0.3, 0.8, 0.05, 0.5, 0.1), strict=True)
        },
        "layers": {
            name: {
                "hidden_gradient_mean": mean.tolist(),
                "hidden_gradient_max": (3 * mean).tolist(),
                "decay_per_step": fall,
                "horizon_steps": reach,
                "saturated": min(0.6, 0.7 * share),
                "weight_gradient_per_step": (mean * 4).tolist(),
                "truncation_points": [border],
            }
            for name in layers
        },
        "first_not_finite": None,
    }


def watched(path: Path, steps: int = 20, bad=(), names=("weight", "bias"), rate=0.1, loss=True):
    """What `watch` leaves: no epochs, no weights; the steps in ``bad`` were NaN.

    ``rate(step)`` may be a number or a list, of parameter groups.
    """
    rng = np.random.default_rng(steps)
    path.mkdir(parents=True)
    head = {"experiment": "watch", "framework": "torch", "seed": None}
    settings = {"model": "Net", "every": 1, "clips_at": None}
    dump(path, "config", {**head, "settings": settings})
    dump(path, "environment", ENVIRONMENT)
    lines = []
    for step in range(1, steps + 1):
        line = record(rng, step, None, 1 / step, 2.0 / step, 12, ("rnn",), 0, step / steps)
        fine = step not in bad
        rates = rate(step) if callable(rate) else rate
        line |= {
            "loss": 1 / step if fine and loss else None,
            "gradient_norm": 2.0 / step if fine else None,
            "first_not_finite": None if fine else "an input of rnn",
            "learning_rate": rates[0] if isinstance(rates, list) else rates,
            "learning_rates": rates if isinstance(rates, list) else [],
            "parameters": {
                name: {"gradient_norm": 1 / (step + i), "weight_norm": 1.0, "update_ratio": 1e-3}
                for i, name in enumerate(names)
            },
        }
        lines.append(line)
    write_lines(path / "telemetry.jsonl", lines)
    dump(path, "summary", {**head, "status": "finished", "steps": steps})
    return path


def explosion(path: Path, seed: int = 0) -> Path:
    """Two models in one run: one explodes and dies, its norms exactly 0; one is clipped."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True)
    settings = {"lr": 0.2, "batch_size": 64, "length": 20}
    head = {"experiment": "gradient-explosion", "framework": "torch", "seed": seed}
    dump(path, "config", {**head, "settings": settings})
    dump(path, "environment", ENVIRONMENT)
    lines, records = [], []
    for part in ("unclipped", "clipped"):
        for step in range(1, 251):
            record, accuracy = exploded(part, step, rng)
            records.append(record)
            if step % 5 == 0:
                where = {"part": part, "epoch": step // 5, "step": step}
                lines.append({**where, "loss": record["loss"], "val_accuracy": accuracy})
    write_lines(path / "metrics.jsonl", lines)
    write_lines(path / "telemetry.jsonl", records)
    peaks = {"W": {"peak": 6.4e3, "step": 6}, "U": {"peak": 4.8e3, "step": 6}}
    accuracies = {"unclipped": 0.08, "clipped": 0.09}
    dump(path, "summary", {"status": "finished", "test_accuracy": accuracies, "explosion": peaks})
    model(path, rng)
    return path


def exploded(part, step, rng):
    """One line of telemetry of a part, and an accuracy."""
    clipped = part == "clipped"
    if clipped:
        norm = float(rng.lognormal(2.2, 1.1))
    else:
        norm = 8e3 * math.exp(-((step - 6) ** 2) / 8) + 30 / step if step < 60 else 0.0
    after = min(norm, 20.0) if clipped else norm
    parameters = {
        name: {"gradient_norm": norm * share, "update_ratio": after * share / 50}
        for name, share in (("W", 0.8), ("U", 0.6), ("b", 0.2))
    }
    record = {
        "part": part,
        "step": step,
        "epoch": 1 + step // 5,
        "loss": 2.95 + (abs(float(rng.normal())) if clipped else 40 * (step > 6)),
        "gradient_norm": norm,
        "clipped_norm": after,
        "clip_coefficient": after / norm if norm else 1.0,
        "clip_method": "global_norm" if clipped else None,
        "clip_threshold": 20.0 if clipped else None,
        "parameters": parameters,
    }
    return record, 0.09 + 0.02 * float(rng.random())


def model(path, rng):
    values = {name: rng.normal(0, 0.3, shape) for name, shape in PARAMETERS.items()}
    arrays = {name: value.astype(np.float32) for name, value in values.items()}
    (path / "model.safetensors").write_bytes(to_bytes(arrays))


def dump(path, name, value):
    (path / f"{name}.json").write_text(json.dumps(value, indent=2))


def write_lines(file, records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


if __name__ == "__main__":
    out = Path(sys.argv[1])
    language_model(out / "rnn", epochs=500)
    language_model(out / "lstm", seed=1, epochs=300, model="lstm", lr=2.0, border=10)
    explosion(out / "explosion")
