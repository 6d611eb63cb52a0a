"""The plotting libraries of our pages: Chart.js and its zoom, files of their npm packages.

Owns their names, versions and digests. MIT licences, see NOTICE. A newer one: `npm pack
NAME@VERSION`, copy its file out of `dist` here, write down version and digest.
"""

from dataclasses import dataclass
from importlib import resources
from typing import Final

_MAP = "//# sourceMappingURL="


@dataclass(frozen=True, slots=True)
class Library:
    """One file of a package, as it lies there."""

    package: str
    version: str
    file: str
    sha256: str  # of the file

    @property
    def content(self) -> bytes:
        return resources.files(__package__).joinpath(self.file).read_bytes()

    @property
    def script(self) -> str:
        """To stand in a page: without the comment that names a file we do not have."""
        return self.content.decode().partition(_MAP)[0]


CHART: Final = Library(
    "chart.js",
    "4.6.1",
    "chart.umd.min.js",
    "87364cc2b2a76a6684929e7d6b80b18a897794db38400caff1fcf1791c6925d2",
)
# Zooming with a mouse; without hammer.js it leaves fingers to the browser.
ZOOM: Final = Library(
    "chartjs-plugin-zoom",
    "2.2.0",
    "chartjs-plugin-zoom.min.js",
    "e4a088e5bab93be6ee47c939eeb9ebaa80e0b39156d4bdfd1af9c844be81b6c4",
)
