"""Show a report inside a notebook."""

from html import escape
from pathlib import Path
from typing import Protocol, runtime_checkable

from unrolled.errors import SettingError
from unrolled.report import page, tables
from unrolled.report.reading import Run, read_runs, run_of_records
from unrolled.telemetry.records import TelemetryRecord


@runtime_checkable
class Watched(Protocol):
    """A watch as a report needs it, see `unrolled.watch.record_store.RecordStore`."""

    @property
    def records(self) -> list[TelemetryRecord]:
        """The latest records."""

    @property
    def path(self) -> Path | None:
        """Its run directory."""


def read(*sources: str | Path | Watched) -> list[Run]:
    """The runs of directories, and of watches as far as they have come."""
    paths: list[Path] = []
    kept: dict[int, Run] = {}
    for i, each in enumerate(sources):
        if isinstance(each, Watched):
            records = each.records  # settles what waits to be written
            if each.path is None:
                kept[i] = run_of_records(records, f"watch {len(kept) + 1}" if kept else "watch")
                continue
            each = each.path
        if not isinstance(each, (str, Path)):
            raise SettingError(
                f"a report shows run directories and watches; it was given a {type(each).__name__}"
            )
        paths.append(Path(each))
    found = iter(read_runs(paths))
    return [kept[i] if i in kept else next(found) for i in range(len(sources))]


class Inline:
    """A report that a notebook shows in a frame of its own; made by `unrolled.report.show`."""

    def __init__(self, runs: list[Run], height: str) -> None:
        self.runs, self.height = runs, height

    def __repr__(self) -> str:
        told = []
        for run in self.runs:
            facts = ", ".join(tables.facts(run).values())
            numbers = ", ".join(f"{name} {value}" for name, value in tables.headline(run))
            told.append(f"{run.name}: {'; '.join(part for part in (facts, numbers) if part)}")
        return f"report of {' | '.join(told)} (a notebook shows it; else: unrolled report RUN)"

    def _repr_html_(self) -> str:
        drawn, only = page.pictures(self.runs)
        whole = escape(page.render(self.runs, drawn, only))
        style = f"width:100%;height:{escape(self.height)};border:0"
        # a frame keeps apart what several reports call the same, and the notebook's own styles;
        # where frames are left out of a page its words remain
        return (
            f'<iframe srcdoc="{whole}" style="{style}" title="report">{escape(repr(self))}</iframe>'
        )
