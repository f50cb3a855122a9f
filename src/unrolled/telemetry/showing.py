"""Show records and watches in a terminal and in a notebook."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from unrolled.training.not_finite import what_was_done

WIDTH = 80
"""Columns of text, where nobody says how many there are."""


def wrap(text: str, width: int = WIDTH, indent: str = "") -> str:
    """Lines of at most so many characters."""
    return textwrap.fill(
        text,
        max(width, 30),
        initial_indent=indent,
        subsequent_indent=indent or "  ",
        break_long_words=False,
    )


def number(value: float | None) -> str:
    """A number in a sentence.

    Example:
        >>> number(0.0123456), number(None)
        ('0.01235', 'not known')
    """
    return "not known" if value is None else f"{value:.4g}"


def record_facts(record: Any) -> dict[str, str]:
    """What a `TelemetryRecord` says, in few words, by the name of the fact."""
    norm = number(record.gradient_norm)
    if record.clip_coefficient is not None and record.clip_coefficient < 1:
        norm += f", clipped to {number(record.clipped_norm)}"
    facts = {"loss": number(record.loss), "gradient norm": norm}
    rates = record.learning_rates or [record.learning_rate]
    if rates != [None]:
        facts["learning rate"] = ", ".join(map(number, rates))
    for name, layer in record.layers.items():
        facts[name] = layer_fact(layer)
    if record.first_not_finite is not None:
        facts["first not finite"] = record.first_not_finite
    if record.on_nonfinite is not None:
        facts["what was done"] = what_was_done(record)
    return facts


def layer_fact(layer: Any) -> str:
    """What a `LayerRecord` says, in few words."""
    norms = layer.hidden_gradient_mean
    if not norms or not all(map(math.isfinite, norms)):
        return f"{len(norms)} time steps, gradients not finite"
    fact = f"|dL/dh| {number(norms[0])} at the first of {len(norms)} time steps"
    fact += f", {number(norms[-1])} at the last"
    return fact if layer.saturated is None else f"{fact}; {layer.saturated:.0%} saturated"


def lines(title: str, facts: Iterable[tuple[str, str]]) -> str:
    """A title and facts for a terminal."""
    return "\n".join([title, *(f"  {name}: {fact}" for name, fact in facts)])


def table(title: str, facts: Sequence[tuple[str, str]]) -> str:
    """A title and facts for a notebook."""
    rows = (
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(fact)}</td></tr>'
        for name, fact in facts
    )
    return f"<p><b>{escape(title)}</b></p><table>{''.join(rows)}</table>"
