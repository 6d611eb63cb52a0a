"""Reports of replays: figures of each run, for programs and for people.

Owns the forms: `results.json`, `requests.jsonl`, the table, the page, the diff. Pure: runs in, text
out; whoever calls writes the files. The same runs give the same bytes, wall times apart.

The way in: `Report` in `report.py`.

    assets.py    style sheet and script of the page
    diff.py      two runs over one trace, request by request
    figures.py   the numbers that sum up a run, and curves over its time
    found.py     findings of the runs for the terminal
    html.py      the page
    plots.py     the plots of the page
    report.py    what a report is made of; its forms for programs
    svg.py       scales, axes and marks as SVG text
    table.py     the table for a terminal, and what it comes to
    text.py      names from outside, made fit to be shown
"""
