"""`FollowedRun`: the run directory of all processes but the first, which only read it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt

from unrolled.backends import Backend
from unrolled.runs.directory import RunDirectory


class FollowedRun(RunDirectory):
    """A run directory that another process of the same training writes; it can only be read."""

    @classmethod
    def take(cls, path: Path) -> Self:
        return cls.begun(path)

    def begin(self, config: Mapping[str, Any], backend: Backend | None = None) -> None:
        """Nothing: the other process does it."""

    def end(self, summary: Mapping[str, Any]) -> None:
        """Nothing, as all below."""

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        yield

    def write_json(self, name: str, value: Any) -> None:
        pass

    def save_model(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        pass

    def lines(self, name: str) -> Any:
        return lambda record: None

    def go_on(self, *arguments: Any, **options: Any) -> None:
        pass

    def remove_tree(self, path: Path) -> None:
        pass
