"""The demo's result: the record it writes, its verdict, and how both are shown.

The way in: `demo_record` in `report.py`.

    report.py    the record, and the verdict
    table.py     tables for a terminal and in Markdown
"""
