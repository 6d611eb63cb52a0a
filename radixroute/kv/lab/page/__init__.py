"""The lab's report as people see it: one page with plots to touch, small pictures for documents.

Pure: a report in, text out. The page fetches nothing: the plotting library is in it.

    html.py       the whole page
    assets.py     its style sheet and its script
    library.py    the plotting library: Chart.js, as its npm package has it, pinned by digest
    picture.py    one plot as a small SVG
"""
