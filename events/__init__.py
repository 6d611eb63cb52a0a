"""Bytes <-> changes of the index, in order: records, codecs, stream sessions, the publisher.

Knows `radix` (keys, tiers). Never chooses workers and never touches an engine.
"""
