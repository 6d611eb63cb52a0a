"""Traces: who asked when, how much, and which prompts begin alike. No text, no tokens.

Owns the columns of a trace, the formats of its files, and what traces can be made of traces. Never
simulates.

The way in: `Trace` in `trace.py`, `read_trace` in `files.py`.

    captured.py       a router's request log as a trace
    csv_formats.py    lengths only: Azure's, BurstGPT's and a plain form
    draft.py          a trace in the making: rows in, columns out
    files.py          which format a file has, and its lines through that format's reader
    json_formats.py   Mooncake's and Bailian's rows
    kernels.py        numbers for prefixes
    own_format.py     our own files, read and written
    reader.py         the seam of formats: what each claims, and what reads its lines
    reshape.py        traces made of traces: faster, spread, cut, resized
    session_ends.py   who says that a session is over
    token_ids.py      prompts that share exactly what a trace says
    trace.py          `Trace`, and its prefixes by number
    chats/            logs of chats: text in, lengths and prefixes out
    reading/          packings, units of time, rows of sessions: what is asked of any file
    programs/         requests that wait for each other: formats of agents, and who follows whom
"""
