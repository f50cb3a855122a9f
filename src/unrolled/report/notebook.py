"""`Output`: a chart in a notebook cell that points are pushed to; a table without scripts."""

import uuid
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from unrolled.report.page import css, script
from unrolled.report.parts import alternative, script_json, values
from unrolled.report.spec import Picture, Series, plain

# kept in waiting if the drawing code is not there yet: outputs may run in any order
PUSH = (
    "((id,s)=>{const u=window.unrolled||(window.unrolled={}),w=u.waiting||(u.waiting=new Map());"
    "u.push?u.push(id,s):w.set(id,[...(w.get(id)||[]),s])})(%s,%s);"
)


def html(picture: Picture, id: str, width: str = "100%") -> str:
    """A picture that draws itself, also when the notebook is opened again.

    Where scripts do not run (an untrusted notebook, a page that only shows it) a table of
    its values stands instead. ``id`` is the element to `push` to.
    """
    style = f"max-width:{width};padding:.5rem .8rem;border-radius:.5rem"
    return (
        f"<style>{css()}</style>"
        f'<div class="unrolled" role="img" id="{escape(id)}" style="{style}" '
        f'aria-label="{escape(alternative(picture))}">{values(picture)}</div>'
        f"<script>{script()}\n"
        f"unrolled.place({script_json(id)},{script_json(picture.as_dict())});</script>"
    )


def push(id: str, series: Sequence[Series]) -> str:
    """JavaScript that appends points to the lines of a chart; a new label is a new line."""
    return PUSH % (script_json(id), script_json(plain(series)))


def shell() -> Any:
    """IPython's shell where it runs in a notebook, else None."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return None
    found = get_ipython()
    return found if found is not None and hasattr(found, "kernel") else None


def at_end_of_cell(finish: Callable[[], None]) -> None:
    """Call ``finish`` once, when the running cell is over, by whatever end."""
    events = shell().events

    def end(*_: Any) -> None:
        events.unregister("post_run_cell", end)
        finish()

    events.register("post_run_cell", end)


class Output:
    """A chart in the output of a notebook's cell, and a hidden place for messages to it."""

    def __init__(self, picture: Picture, width: str) -> None:
        self.cell: int = shell().execution_count  # the execution that showed it
        self.id = f"board-{uuid.uuid4().hex[:12]}"  # of its own in whatever notebook it ends up
        self.width = width
        self._display(picture)
        self._message("")

    def push(self, series: Sequence[Series]) -> None:
        """Append points."""
        self._message(push(self.id, series), update=True)

    def store(self, picture: Picture) -> None:
        """Put the whole picture in the place of what was shown and pushed."""
        self._display(picture, update=True)
        self._message("", update=True)

    def _display(self, picture: Picture, update: bool = False) -> None:
        page = html(picture, self.id, self.width)
        self._show({"text/html": page, "text/plain": alternative(picture)}, self.id, update)

    def _message(self, code: str, update: bool = False) -> None:
        # no words: they would stand below the chart where scripts do not run
        bundle = {"application/javascript": code, "text/plain": ""}
        self._show(bundle, f"{self.id}-push", update)

    def _show(self, bundle: dict[str, str], id: str, update: bool) -> None:
        from IPython import display

        how: Any = display.update_display if update else display.display
        how(bundle, raw=True, display_id=id)
