"""Insight: what one sees of a live router: why it went there, why it missed, what would be better.

Owns no decision and none of the truth: it reads the tape of one router, in the router's loop, and
shows what it makes of it as metrics, pages and answers. Never writes a prompt anywhere, never holds
more than its settings say, never makes the router wait.

The way in: `observed_by` in `insight.py`, which `deploy` hands to each `RouterService`.

    insight.py      one router's observer: its readers, their metrics and pages
    reader.py       the seam: whoever reads the tape
    service.py      what readers say over gRPC
    access_log.py   one line a request
    settings.py     what is kept, for how long
    errors.py       errors, cut by what the caller can do
    warm.py         its kernels, loaded
    misses/         why each prompt token was computed that might have been cached
    shadow/         policies that are asked the same, and never act

Imports point one way: `insight` > `warm`, `service` > `misses`, `shadow`, `access_log` > `reader` >
`settings` > `errors`.
"""
