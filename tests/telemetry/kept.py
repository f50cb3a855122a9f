"""Minibatches that are given, and a listener that keeps the arrays of every step."""

from unrolled.training.records import Listener


class Batches:
    """A data module of these minibatches, which continue each other."""

    continues = True

    def __init__(self, backend, *batches):
        self.batches = [tuple(map(backend.asarray, batch)) for batch in batches]

    def train_dataloader(self):
        return self

    def val_dataloader(self):
        return None

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class Keeper(Listener):
    """Keeps the gradients and weights of every step as NumPy arrays."""

    def __init__(self):
        self.gradients, self.clipped, self.weights, self.steps = [], [], [], []

    def on_backward(self, trainer, backward):
        for keep, arrays in (
            (self.gradients, backward.gradients),
            (self.clipped, backward.clipped),
            (self.weights, trainer.parameters),
        ):
            keep.append({n: trainer.backend.to_numpy(a).astype(float) for n, a in arrays.items()})

    def on_step(self, trainer, step):
        self.steps.append(step)
