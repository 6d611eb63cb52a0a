"""The lab's report as people see it: one page with plots to touch, small pictures for documents.

Pure: a report in, text out. The page fetches nothing: the plotting library is in it, the one of
`replay/report/page/library.py`.

    html.py       the whole page
    assets.py     its style sheet and its script
    picture.py    one plot as a small SVG
    svg.py        scales, axes and marks of a picture
"""
