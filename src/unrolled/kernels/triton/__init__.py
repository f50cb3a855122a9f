"""Recurrences by Triton kernels of our own.

To read in this order: ``product.py``, a block of a matrix product; ``cells.py``, of each cell
one step forward and one step back; ``loops.py``, the loops over time; ``torch.py``, which
makes the tensors and starts the loops.

A GPU runs many *programs* at once. Each takes 16 sequences and some of their hidden units. One
start does all steps. A step needs the whole state before it, so after each step the programs of
the same sequences wait for each other: they count in memory how many of them have arrived, and go
on when all have. They must all run at the same time, so there are no more of them than the GPU
has multiprocessors.

This version has never run on a GPU: the tests run it in Triton's interpreter, and translate it
for NVIDIA's GPUs by Triton's compiler. An earlier one ran on an H100.

Reference: P. Tillet, H. T. Kung and D. Cox, Triton: an intermediate language and compiler for
tiled neural network computations, MAPL 2019.

G. Diamos et al., Persistent RNNs: stashing recurrent weights on-chip, ICML 2016, the first
such kernels; theirs keep the weights in registers, too.
"""
