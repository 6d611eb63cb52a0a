"""Errors of the room, cut by what the caller can do."""


class BadInsightSetting(ValueError):
    """A setting makes no sense: change it."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"insight.{name} {problem}")
