"""Gradients through time of PyTorch's own recurrent layers, by hooks and recomputation."""
