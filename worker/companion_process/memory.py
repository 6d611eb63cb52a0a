"""Memory of a companion process: what a start needed goes back to the system once it is over.

Reading a tokenizer and loading kernels takes tens of megabytes more than what stays of it, and the
C library keeps them.
"""

import ctypes
import gc
from contextlib import suppress


def settle() -> None:
    """Modules, kernels and tokenizers stay for good: collections need not look at them again. Some
    hundredths of a second."""
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):  # another C library has no such call
        ctypes.CDLL(None).malloc_trim(0)
