"""Names from outside, made fit for terminals and pages: all that people read goes through here."""

import html


def printable(text: str) -> str:
    """What does not print (control characters, lone surrogates, turns of direction) as U+FFFD."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


def escape(text: str) -> str:
    """For HTML and SVG, inside elements and inside quoted attributes."""
    return html.escape(printable(text), quote=True)


def short(text: str, most: int) -> str:
    """At most so many characters: a drawing has only so much room."""
    return text if len(text) <= most else text[: most - 1] + "\u2026"
