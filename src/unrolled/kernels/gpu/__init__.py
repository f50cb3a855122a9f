"""Recurrences on GPUs: of all engines that can, the one that is fastest for the shape.

- the **vendor's fused layer** (`unrolled.kernels.cudnn`), cuDNN, which gives no gradients
  through time;
- the written-out passes **in the framework's operations**, which can do everything, at their
  pace: hundreds of starts;
- the same as **CUDA graphs** (`unrolled.kernels.graphs`);
- **kernels of the project's own** (`unrolled.kernels.triton`), one start for all steps, or one for
  each step, recorded as a CUDA graph.

Which is fastest depends on the shape and the device, so the first call with a shape measures
them (`choice.py`). An engine has to give the numbers of the first that works before its time
counts.
"""
