"""Values that the program chose for open settings of a language model, for the record of a run."""

from collections.abc import Sequence
from typing import Any

from unrolled.kernels import chosen
from unrolled.telemetry.recorder import period


def used(
    settings: Any, framework: str, prefixes: Sequence[str], data: Any, device: Any
) -> dict[str, Any]:
    """Return the values used for open settings, by name.

    Args:
        settings: those of ``language-model``, complete.
        framework: its name.
        prefixes: what the model continues.
        data: the texts.
        device: of the training; None is the CPU.
    """
    steps = settings.max_epochs * len(data.get_dataloader(train=True))
    layer = f"the layer of {framework}"
    return {
        "text": "The Time Machine" if settings.text is None else settings.text,
        "max_tokens": len(data.train_ids),
        "prefix": list(prefixes),
        "back_steps": settings.back_steps or settings.num_steps,
        "telemetry_every": period(settings.telemetry_every, steps),
        "engine": chosen(framework, settings.engine, device is not None)
        if settings.scratch
        else layer,
        "num_gpus": int(device is not None),
    }
