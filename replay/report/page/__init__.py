"""A report as one page for people: advice first, then why, then everything it rests on.

Owns the page's words, charts and looks. Pure: a `Report` in, text out. The page fetches nothing:
the plotting libraries are in it, and all charts are theirs; what is drawn stands in the page as
JSON, in the records of `charts.py`.

The way in: `index_html` in `html.py`.

    advice.py    which policy to take, in a sentence, and what speaks against it
    charts.py    what a chart shows, as records and as JSON
    html.py      the whole page
    library.py   the plotting libraries, pinned by digest; the KV lab's page has them too
    pieces.py    parts of HTML: figures with their keys, tables, lists
    plots.py     the charts of a replay: which numbers, over which ranges
    sections.py  all that is shown of one setting
    shown.py     runs as the page shows them: names, colours, order, standings
    tables.py    figures of all policies, losses, idle times, what it depended on
    words.py     times, sizes and reasons in plain words

Beside them `page.css` and `page.js`, which stand in every page as they are.
"""
