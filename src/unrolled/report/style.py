"""Colours and dashes of all charts, for light, dark and paper.

The palette begins with the hues of Okabe and Ito, darkened or lightened until each stands out at
3:1 or more; the rest are chosen so that all eight stay apart for readers with any kind of colour
blindness. ``tests/report/test_style.py`` measures both. Lines differ in dash as well.

Source: Okabe and Ito, https://jfly.uni-koeln.de/color; the sequential map is Viridis
(van der Walt and Smith, 2015), the diverging one ColorBrewer's PuOr.
"""

GROUND = {"light": "#ffffff", "dark": "#171a20"}
"""The ground that charts are drawn on."""

PALETTE = {
    "light": (
        *("#0072b2", "#d55e00", "#00805d", "#b0558b", "#772200", "#5511ff", "#333333", "#660066"),
    ),
    "dark": (
        *("#56b4e9", "#f0803c", "#12a37a", "#dd94bd", "#e69f00", "#a9d6f5", "#e6e6e6", "#f0e442"),
    ),
}
"""Eight colours; the first four are blue, vermilion, green and purple."""

DASHES: dict[str, tuple[str, tuple[float, ...]]] = {
    "solid": ("-", ()),
    "dashed": ("--", (7, 4)),
    "dotted": (":", (2, 3)),
    "dashdot": ("-.", (8, 3, 2, 3)),
}
"""By name: matplotlib's sign, and lengths of dash and gap on a screen."""

MAPS = {
    "sequential": (
        *("#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884"),
        *("#44bf70", "#7ad151", "#bddf26", "#fde725"),
    ),
    "diverging": (
        *("#542788", "#8073ac", "#b2abd2", "#d8daeb", "#f7f7f7", "#fee0b6", "#fdb863"),
        *("#e08214", "#b35806"),
    ),
}
"""Colours from the smallest value to the largest, evenly spaced."""


def style(i: int) -> tuple[int, str]:
    """Colour and dash of line ``i``: 32 different ones, no two of them by colour alone.

    Example:
        >>> style(0), style(1), style(8)
        ((0, 'solid'), (1, 'dashed'), (0, 'dashed'))
    """
    names = list(DASHES)
    size = len(PALETTE["light"])
    return i % size, names[(i + i // size) % len(names)]


def dash_of(sign: str) -> str:
    """The name of a dash from matplotlib's sign or name for it; solid, if it is unknown.

    Example:
        >>> dash_of("--"), dash_of("dotted"), dash_of("?")
        ('dashed', 'dotted', 'solid')
    """
    return next((name for name, (own, _) in DASHES.items() if sign in (name, own)), "solid")


def css() -> str:
    """The palette as CSS variables, ``--c0`` to ``--c7``, for both grounds."""
    pairs = zip(PALETTE["light"], PALETTE["dark"], strict=True)
    colours = "".join(f"--c{i}:light-dark({a},{b});" for i, (a, b) in enumerate(pairs))
    return f".unrolled{{--ground:light-dark({GROUND['light']},{GROUND['dark']});{colours}}}"


def as_dict() -> dict[str, object]:
    """What the drawing code in the browser needs: colours, dashes, maps."""
    return {
        "colours": len(PALETTE["light"]),
        "dashes": {name: pattern for name, (_, pattern) in DASHES.items()},
        "maps": MAPS,
    }
