"""Parameters of any native model: list them, reach one, tie two, save and load.

``unrolled.<framework>.parameters(model)`` gives a `Parameters`, whatever the framework
and whoever wrote the model.
"""

from unrolled.parameters.files import as_known, read, to_bytes, untied
from unrolled.parameters.listing import Parameter, Parameters, check_finite, listed, shapes_of
from unrolled.parameters.table import as_html, as_text

__all__ = [
    "Parameter",
    "Parameters",
    "as_html",
    "as_known",
    "as_text",
    "check_finite",
    "listed",
    "read",
    "shapes_of",
    "to_bytes",
    "untied",
]
