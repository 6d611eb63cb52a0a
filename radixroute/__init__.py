"""radixroute: route LLM requests to where their KV cache already is.

This folder holds the front door only: the version, the command line, the client and the config
file. The rooms (`radix`, `request`, `protos`, `metrics`, `trust`, `events`, `worker`, `router`,
`replay`, `deploy`, `demo`) live at the top of the repository and install as `radixroute.<room>`;
the links beside this file let tools find them.

Owns what users touch first: the command `radixroute`, `RouterClient`, `radixroute.toml`. Never
routes, indexes or simulates. The way in: `RouterClient` in `client.py`, or `cli/app.py`.

    __main__.py        the command `radixroute`
    answer.py          one request and its answer as Python values
    client.py          clients of a router, blocking and asyncio
    lasting_answers.py  all answers to one prompt, whatever connections carry them
    lasting_stream.py  one answer, whatever connections carry it
    call_errors.py     what a failed call means, in our words
    config.py          the effective settings: file, environment, flags
    config_values.py   one setting's value, from TOML or text to its type
    errors.py          errors, cut by what whoever sees them can do
    cli/               commands, their options, and how results look
    kv/                KV caches, measured: the lab
    doctor/            what is wrong with a fleet or an engine: evidence, checks, fixes
    live/              a running cluster from outside: live replay, calibration, recording
"""

__version__ = "0.1.0"
