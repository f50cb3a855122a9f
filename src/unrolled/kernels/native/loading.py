"""The library file: is it there, does it fit, what does it use; and how a call of it is made."""

import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from unrolled.errors import SettingError, did_you_mean
from unrolled.kernels.native.arrays import address, fill, is_tensor, precision_of
from unrolled.kernels.native.interface import INSTRUCTIONS, declare, fits

LIBRARY = Path(__file__).with_name("libunrolled.so")


@cache
def loaded() -> Any:
    """The library, loaded once."""
    return declare(ctypes.CDLL(str(LIBRARY)))


@contextmanager
def using(instructions: str) -> Iterator[None]:
    """Inside it ``UNROLLED_NATIVE`` is this, in this process and in those that it starts.

    Calls that were recorded or compiled before keep their instructions.

    Args:
        instructions: a set, or ``"off"`` for none of the kernels.

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
    """Whether the kernels can be used, and a sentence about it.

    Example:
        >>> usable, reason = available()
        >>> isinstance(usable, bool), len(reason) > 0
        (True, True)
    """
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
    """What runs, and what else could.

    Returns:
        ``{"available": bool, "reason": str}`` and, if available, ``"instructions"``, the set in
        use, and ``"choices"``, those of this CPU.
    """
    usable, reason = available()
    if not usable:
        return {"available": False, "reason": reason}
    choices = _choices()
    return {
        "available": True,
        "reason": reason,
        "instructions": _best(choices),
        "choices": choices,
    }


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


_scratch = threading.local()


def _workspace(bytes: int) -> int:
    """Scratch memory of this thread. It is kept: new pages at every call would cost more than
    some of the products.
    """
    if bytes > getattr(_scratch, "bytes", 0):
        _scratch.memory, _scratch.bytes = ctypes.create_string_buffer(bytes), bytes
    return ctypes.addressof(_scratch.memory)


def check(error: int) -> None:
    """What a function of the library returned, as an exception if it is an error."""
    if error:
        raise ValueError(loaded().unrolled_message(error).decode())


Call = tuple[str, Any, int]
"""A call of the library: its name, its structure, and bytes of scratch memory."""

_recorded: ContextVar[list[Call] | None] = ContextVar("recorded", default=None)


@contextmanager
def recording() -> Iterator[list[Call]]:
    """Collect the calls made inside it in a list instead of making them."""
    calls: list[Call] = []
    token = _recorded.set(calls)
    try:
        yield calls
    finally:
        _recorded.reset(token)


def begin(kind: Any, like: Any, threads: int, precision: str = "", **sizes: Any) -> Any:
    """A call with everything but its arrays.

    Args:
        kind: its structure.
        like: one of the arrays.
        threads: how many.
        precision: "" for that of the arrays, or ``"bfloat16"``.
        sizes: further fields.
    """
    return kind(
        precision=precision_of(precision, like),
        instructions=in_use(),
        threads=threads,
        openmp=is_tensor(like),
        **sizes,
    )


def give(call: Any, like: Any, sizes: Mapping[str, int], arrays: Mapping[str, Any]) -> None:
    """Write the addresses of arrays into a call, after a look at each.

    Args:
        call: from `begin`.
        like: an array of the type that all must have.
        sizes: by the letters of the call's ``shapes``.
        arrays: by the names of fields; sequences where there is one for each gate.
    """
    for name, array in arrays.items():
        shape = tuple([sizes[letter] for letter in call.shapes[name]])
        if isinstance(array, (list, tuple)):
            fill(getattr(call, name), [address(part, shape, like=like) for part in array])
        else:
            setattr(call, name, address(array, shape, like=like))


def run(name: str, call: Any, workspace: str = "") -> None:
    """Call a function of the library, with the scratch memory that another one says it needs."""
    if call.threads < 1:
        raise ValueError(f"threads={call.threads}: at least 1 is needed")
    bytes = getattr(loaded(), workspace)(ctypes.byref(call)) if workspace else 0
    recorded = _recorded.get()
    if recorded is not None and bytes >= 0:
        recorded.append((name, call, bytes))
        return
    if bytes > 0:  # below 0 there is none for such sizes, and the function says what is wrong
        call.workspace = _workspace(bytes)
    check(getattr(loaded(), name)(ctypes.byref(call)))
