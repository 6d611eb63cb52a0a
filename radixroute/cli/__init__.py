"""The command line: commands, their options, and how results look on a terminal.

Owns what users type and see: names, flags, tables, JSON, exit codes. Decides nothing about routing,
events or replays: each command asks the rooms below, and imports what is heavy only when it runs,
so that `--help` answers at once. Called by `radixroute.__main__`; nothing imports it.

The way in: `app.py`, then the file of a command.

    app.py               the application made of the commands, and where errors become exit codes
    capture.py           `replay capture`
    cluster.py           `up`, `down`, `config`, `warm`
    console.py           tables, JSON, and one line for an error
    context.py           the settings of a command
    event_lines.py       recordings as lines, cells and JSON values
    event_tables.py      recordings on the console
    events.py            `events record`, `events show`, `events replay`
    inspect.py           `workers`, `hits`, `explain`
    recording_file.py    a recording that a command is given: opened, a point in it, its end
    recording_run.py     a recording while it is made
    replay.py            the group `replay`, and `replay run`
    replay_diff.py       `replay diff`
    replay_options.py    options of `replay run`: which go together, the values behind them
    replay_report.py     a bar, tables, and the folder of a report
    reported_errors.py   errors of the rooms below, with our exit codes
    router_address.py    where the router is
    submit.py            `submit`
    synth.py             `replay synth`
    trace_file.py        trace files as commands are given them
"""
