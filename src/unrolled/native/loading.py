"""Load the library of native kernels, say if it is there, and choose its instruction set."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from unrolled.errors import SettingError, did_you_mean
from unrolled.native.interface import INSTRUCTIONS, declare, fits

LIBRARY = Path(__file__).with_name("libunrolled.so")


@cache
def loaded() -> Any:
    """The library, loaded once."""
    return declare(ctypes.CDLL(str(LIBRARY)))


@contextmanager
def using(instructions: str) -> Iterator[None]:
    """Inside it ``UNROLLED_NATIVE`` is this, in this process and in those that it starts.

    Calls that were recorded or compiled before keep their instructions.

    Example:
        >>> with using("off"):
        ...     available()
        (False, 'switched off by UNROLLED_NATIVE=off')
    """
    before = os.environ.get("UNROLLED_NATIVE")
    try:
        _ask_for(instructions)
        yield
    finally:
        _ask_for(before)


def _ask_for(instructions: str | None) -> None:
    os.environ.pop("UNROLLED_NATIVE", None)
    if instructions is not None:
        os.environ["UNROLLED_NATIVE"] = instructions
    available.cache_clear()
    in_use.cache_clear()


@cache
def available() -> tuple[bool, str]:
    """Whether the kernels can be used, and a sentence about it."""
    if os.environ.get("UNROLLED_NATIVE", "").lower() == "off":
        return False, "switched off by UNROLLED_NATIVE=off"
    if not LIBRARY.exists():
        return False, (
            "not built: no C++ compiler was found when unrolled was installed; "
            "install one (g++ or clang++), then install unrolled again"
        )
    try:
        fitting, choices = fits(loaded()), _choices()
    except (OSError, AttributeError) as error:
        return False, f"built, but does not load: {error}; install unrolled again"
    if not fitting:
        return False, "built from another version of the sources; install unrolled again"
    return True, f"uses {_best(choices)}"


def describe() -> dict[str, Any]:
    """What runs, and what else could."""
    usable, reason = available()
    if not usable:
        return {"available": False, "reason": reason}
    best = {"instructions": _best(_choices()), "choices": _choices()}
    return {"available": True, "reason": reason, **best}


def _choices() -> tuple[str, ...]:
    """The instruction sets that both the library and this CPU have, from the slowest up."""
    has = loaded().unrolled_has_instructions
    return tuple(name for i, name in enumerate(INSTRUCTIONS) if has(i))


def _best(choices: tuple[str, ...]) -> str:
    """The fastest of them; none above the one that the environment asks for."""
    asked = os.environ.get("UNROLLED_NATIVE", "").lower()
    if asked in ("", "auto", "off"):
        return choices[-1]
    if asked not in INSTRUCTIONS:
        known = ("auto", "off", *INSTRUCTIONS)
        raise SettingError(f"UNROLLED_NATIVE={asked}: {did_you_mean(asked, known)}")
    return [name for name in choices if INSTRUCTIONS.index(name) <= INSTRUCTIONS.index(asked)][-1]


@cache
def in_use() -> int:
    """The number of the best instruction set that the CPU has and the environment allows."""
    usable, reason = available()
    if not usable:
        raise SettingError(f"no native kernels: {reason}")
    return INSTRUCTIONS.index(_best(_choices()))
