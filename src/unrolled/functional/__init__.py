"""The formulas, each written once, for every framework.

A formula is a pure function of arrays. The array namespace ``xp`` comes first
(`unrolled.backends.Namespace`; PyTorch, NumPy, ...), then arrays by position.

What computes them fast says some of them once more in its own way: with derivatives written out
(`bptt`), in C++ (`native`), for GPUs (`kernels/triton`). Tests hold each equal to the
formula here.

Shape letters used throughout:
``T`` time steps, ``B`` batch size, ``D`` input features, ``H`` hidden units,
``V`` vocabulary size, ``N`` rows of any kind.
"""
