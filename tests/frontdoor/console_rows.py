"""Tables of the command line as a test reads them."""

import re


def rows_of(text):
    """A table's rows, cells parted by one space."""
    return [" ".join(re.sub(r"[│┃|]", " ", line).split()) for line in text.splitlines()]
