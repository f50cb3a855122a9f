"""The passes written out, `unrolled.kernels.explicit`, as operations of a framework."""
