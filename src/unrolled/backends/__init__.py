"""Array adapters, one per framework: the only modules that the library needs of a framework.

`Namespace` is the table of array operations that the formulas use, `Backend` the dozen
functions that training needs. Which frameworks there are, and how to install them, is
in `unrolled.frameworks`.
"""

from unrolled.backends.namespace import Array, Namespace
from unrolled.backends.protocol import Backend

__all__ = ["Array", "Backend", "Namespace"]
