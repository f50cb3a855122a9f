"""Clipping written out with loops, without the array namespace: the truth of its tests."""

import math

import numpy as np


def norm_of(gradients):
    return math.hypot(*(float(x) for g in gradients.values() for x in np.ravel(g)))


def by_hand(method, gradients, parameters, theta):
    """What clipping must give, by loops and without the array namespace."""
    if method == "global_norm":
        scale = min(1, theta / norm_of(gradients))
        return {name: g * scale for name, g in gradients.items()}
    if method == "per_tensor":
        return {n: g * min(1, theta / np.linalg.norm(g.ravel())) for n, g in gradients.items()}
    if method == "value":
        return {name: np.clip(g, -theta, theta) for name, g in gradients.items()}
    clipped = {}
    for name, g in gradients.items():
        W, result = parameters[name], g.copy()
        rows = "weight" in name.rpartition(".")[-1]
        units = range(g.shape[0 if rows else -1]) if g.ndim > 1 and name != "b" else [None]
        for unit in units:
            at = ... if unit is None else (unit,) if rows else (..., unit)
            allowed = theta * max(np.linalg.norm(W[at].ravel()), 1e-3)
            result[at] *= min(1, allowed / np.linalg.norm(g[at].ravel()))
        clipped[name] = result
    return clipped
