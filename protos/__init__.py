"""radixroute.v1: the wire contract and its generated stubs. No logic lives here."""

# Raised when a message or a promise of v1 is added; exchanged at join and at session open.
API_VERSION = 1
