"""Errors of the demo, cut by what whoever runs it can do about them.

DemoError
├── TornTexts          the shipped texts are damaged or missing: reinstall the package
├── InvalidWorkload    chats of these numbers make no workload: ask for others
├── BadPlan            sizes that make no fair comparison: plan others
├── ModelUnavailable   the model could not be fetched: check the network and retry
└── AskFailed          a request ended without a complete answer
"""


class DemoError(Exception):
    """Something that ends the demo, with the reason as its text."""


class TornTexts(DemoError):
    """The shipped texts are damaged or missing."""


class InvalidWorkload(DemoError):
    """Chats of these numbers make no workload."""


class BadPlan(DemoError):
    """Sizes that make no fair comparison."""


class ModelUnavailable(DemoError):
    """The model could not be fetched; the text says what to do."""


class AskFailed(DemoError):
    """A request ended without a complete answer."""
