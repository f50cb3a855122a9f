"""``data_parallel()``: refuses, as MXNet trains by one process on one device here."""

from collections.abc import Mapping
from typing import Any

from unrolled.processes.place import place_from_environment
from unrolled.training import data_parallel as shared


def data_parallel(devices: int = 1, about: Mapping[str, Any] = {}) -> shared.DataParallel:
    """This process alone, with one device; refuses what is more.

    Args:
        devices: 1.
        about: of no use here, as there are no other processes.

    Returns:
        What ``Trainer(data_parallel=...)`` takes.

    Raises:
        SettingError: there are several devices or processes.

    Example:
        >>> from unrolled import mxnet
        >>> mxnet.data_parallel().parts
        1
    """
    shared.check_devices(devices)
    if devices > 1 or place_from_environment() is not None:
        why = "its own way to share minibatches, KVStore, was retired with it in 2023"
        shared.refuse_processes("MXNet", why)
    return shared.DataParallel()
