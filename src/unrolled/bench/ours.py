"""The competitors of this project: its language model and trainer, by framework."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from unrolled.bench.task import CLIP_NORM, LEARNING_RATE, Batch, Competing, Task
from unrolled.frameworks import load
from unrolled.training.records import Listener


def trained(task: Task, framework: str, listeners: Sequence[Listener] = ()) -> Competing:
    """A from-scratch model trained by ``Trainer.fit_batch``; listeners hear of every step."""
    u = load(framework)
    model = u.LanguageModel(
        task.V,
        task.H,
        task.cell,
        task.layers,
        lr=LEARNING_RATE,
        values=task.values(),
        device=u.backend.devices(1)[0] if task.gpu else None,
    )

    def framework_arrays(batches: list[Batch]) -> list[Any]:
        return [
            u.backend.to_device(tuple(u.backend.asarray(ids) for ids in batch), device)
            for batch in batches
        ]

    trainer = u.Trainer(1, int(task.gpu), CLIP_NORM, listeners=listeners)
    device = trainer.gpus[0] if task.gpu else u.backend.cpu()
    first = framework_arrays(task.first(1))
    data = SimpleNamespace(train_dataloader=lambda: first, val_dataloader=lambda: None)
    trainer.prepare(model, data)
    for listener in listeners:
        listener.on_fit_start(trainer)
    state: Any = None

    def ready(batches: list[Batch]) -> Any:
        arrays = framework_arrays(batches)

        def turn() -> float:
            nonlocal state
            for batch in arrays:
                record, state = trainer.fit_batch(batch, state)
                for listener in listeners:
                    listener.on_step(trainer, record)
            u.backend.synchronize()
            loss: float = record.loss
            return loss

        return turn

    return ready
