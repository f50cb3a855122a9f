"""Recurrences on GPUs by kernels of the project's own, in Triton.

To read in this order: ``product.py``, a block of a matrix product; ``cells.py``, of each cell
one step forward and one step back; ``loops.py``, the loops over time; ``torch.py``, which
makes the tensors and starts the loops.

A GPU runs many *programs* at once, and they cannot wait for each other. A step of a recurrence
needs the whole state before it, so there are two ways to divide the work:

- **by sequences**: a program carries 16 sequences over all steps, with all their units.
  One start in all, but few programs, and each reads all of ``W_h`` at every step.
- **by sequences and units**: a program computes 32 units of 16 sequences for one step. Many
  programs, but every step is a start of its own, cheap only within a CUDA graph.

The kernels are the same. Which way is faster depends on the shape, and is measured
(`unrolled.kernels.gpu`). No GPU has run them yet: Triton's interpreter on the CPU has, and its
compiler has translated them for NVIDIA's GPUs.

Reference: P. Tillet, H. T. Kung and D. Cox, Triton: an intermediate language and compiler for
tiled neural network computations, MAPL 2019.
"""
