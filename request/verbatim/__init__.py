"""verbatim: requests that only another's engine understands, and what it answers, as bytes.

records.py   what crosses from a door to an engine and back
bodies.py    fields of a body, taken out or set
"""
