"""Group the names of tied parameters."""

from collections.abc import Mapping

from unrolled.backends.namespace import Array


def first_places(places: Mapping[str, Array]) -> dict[str, str]:
    """For every place the first one that has the same array: itself, unless it is tied."""
    first: dict[int, str] = {}
    return {place: first.setdefault(id(array), place) for place, array in places.items()}


def without_ties(places: Mapping[str, Array]) -> dict[str, Array]:
    """Every array once, under its first place."""
    return {place: places[place] for place, first in first_places(places).items() if place == first}
