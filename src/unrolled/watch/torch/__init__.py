"""`watch` for PyTorch models: records of gradients in any training loop."""

from unrolled.watch.torch.watch import Watch

__all__ = ["Watch", "watch"]

watch = Watch
