"""Recurrences on GPUs by kernels of the project's own, in Triton.

To read in this order: ``product.py``, a block of a matrix product; ``cells.py``, of each cell
one step forward and one step back; ``loops.py``, the loops over time; ``torch.py``, which
makes the tensors and starts the loops.

A GPU runs many *programs* at once. Each takes 16 sequences and some of their hidden units. A
step needs the whole state before it, so between two steps the programs of the same sequences
must wait for each other. There are two ways:

- **persistent**: one start for all steps. The programs count in memory how many of them have
  arrived, and go on when all have. They must all run at the same time, so there are no more of
  them than the GPU has multiprocessors.
- **by steps**: every step is a start of its own, before which the GPU waits by itself. Any
  number of programs, but a start for each step, cheap only within a CUDA graph.

The kernels are the same. Which way is faster depends on the shape, and is measured
(`unrolled.kernels.gpu`). Where there is no GPU, Triton's interpreter runs them for the tests,
and its compiler translates them.

Reference: P. Tillet, H. T. Kung and D. Cox, Triton: an intermediate language and compiler for
tiled neural network computations, MAPL 2019.

G. Diamos et al., Persistent RNNs: stashing recurrent weights on-chip, ICML 2016, the first
such kernels; theirs keep the weights in registers, too.
"""
