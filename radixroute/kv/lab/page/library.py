"""The plotting library of the page: Chart.js, one file of its npm package as it stands, 210 kB.

Owns its name, version and digest. MIT licence, see NOTICE. A newer one: `npm pack
chart.js@VERSION`, copy its file `dist/chart.umd.min.js` here, write down version and digest.
"""

from importlib import resources
from typing import Final

PACKAGE: Final = "chart.js"
VERSION: Final = "4.6.1"
FILE: Final = "chart.umd.min.js"
SHA256: Final = "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2"
_MAP = "//# sourceMappingURL="


def library_file() -> bytes:
    """As it lies in the package."""
    return resources.files(__package__).joinpath(FILE).read_bytes()


def library_script() -> str:
    """To stand in a page: without the comment that names a file we do not have."""
    return library_file().decode().partition(_MAP)[0]
