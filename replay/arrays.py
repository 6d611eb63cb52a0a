"""Types of arrays in this room, beside those of `radix.ids`. Names only: no code, no values."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Cells: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]
