"""Reading: from a file of any packing to lines, and what whoever reads must be told about them.

Owns compressions, archives and other packings, units of time, and whether a session's rows repeat
its prompt or add to it. Knows no format of rows.

The way in: `rows_of` in `packing.py`, `Wanted` in `wanted.py`.

    compression.py   gzip, bzip2, xz and zstd, told by content
    archives.py      the one file in a zip or a tar
    packing.py       a file as rows: layers taken off, marks of encodings, JSON arrays
    parquet.py       the rows of a Parquet file
    session_rows.py  rows that repeat their session's prompt, and rows that add to it
    strangers.py     what a file is that is no trace
    times.py         units of time, and times that cannot be meant
    understood.py    what was read, in words
    wanted.py        what whoever reads says of a file
"""
