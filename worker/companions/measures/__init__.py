"""measures: what a companion counts, and shows on its worker's page.

counters.py   `CompanionCounters`: attempts, tokens and events, as plain numbers
metrics.py    the table of metrics, and the record that it is read from
sight.py      that record, taken of a companion
"""
