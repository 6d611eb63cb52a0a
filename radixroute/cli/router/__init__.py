"""Commands that look at a running router, and the one that changes it.

inspect.py      `workers`, `hits`, `explain`
insight.py      `misses`, `shadow`
switch.py       `switch`
by_worker.py    tables with a column for each worker, in pages
"""
