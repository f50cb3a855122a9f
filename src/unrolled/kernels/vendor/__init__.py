"""The fused layers that frameworks bring from the makers of GPUs, with the cells' weights."""
