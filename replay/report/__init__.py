"""Reports of replays: figures of each run, for programs and for people.

Owns the forms: `results.json`, `requests.jsonl`, the table, the page, the diff. Pure: runs in, text
out; whoever calls writes the files. The same runs give the same bytes, wall times apart.

The way in: `Report` in `report.py`.

    diff.py      two runs over one trace, request by request
    figures.py   the numbers that sum up a run, and curves over its time
    found.py     findings of the runs for the terminal
    losses.py    the time that requests lost, and to what
    report.py    what a report is made of; its forms for programs
    settings.py  everything that runs depended on, in words
    table.py     the table for a terminal, and what it comes to
    text.py      names from outside, made fit to be shown
    page/        the page for people
"""
