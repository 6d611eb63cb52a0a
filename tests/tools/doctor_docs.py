"""Writes the tables of docs/doctor.md from the checks; `--check` compares instead."""

import sys
from pathlib import Path

from radixroute.deploy.serving.story import with_flags
from radixroute.doctor.check import Check
from radixroute.doctor.table import KINDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"
MARK = "<!-- from here on made by `python -m tests.tools.doctor_docs` -->"


def page() -> str:
    """The words above the mark as they are, and the tables anew."""
    head, _, _ = PAGE.read_text().partition(MARK)
    return "\n".join([f"{head}{MARK}\n", *(_section(title, checks) for title, checks in KINDS)])


def _section(title: str, checks: tuple[Check, ...]) -> str:
    rows = [f"## {title}\n", "| code | | what is wrong | why it matters | fix |"]
    rows.append("| --- | --- | --- | --- | --- |")
    for check in checks:
        texts = (check.about, check.why, with_flags(check.fix))
        cells = (f"`{check.code}`", check.level.value, *map(_cell, texts))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    """Nothing in it ends a cell or begins emphasis."""
    return text.replace("|", "\\|").replace("*", "\\*")


def main() -> int:
    fresh = page()
    if "--check" not in sys.argv:
        PAGE.write_text(fresh)
    elif PAGE.read_text() != fresh:
        print("docs/doctor.md is out of date: run python -m tests.tools.doctor_docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
