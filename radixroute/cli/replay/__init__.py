"""The commands about traces: `replay run`, `replay diff`, `replay synth`, `replay capture`,
`replay plan`.

The way in: `command.py`.

    command.py         the group `replay`, and `replay run`
    diff.py            `replay diff`
    synth.py           `replay synth`
    capture.py         `replay capture`
    options.py         options of `replay run`: which go together, the values behind them
    plan.py            `replay plan`
    report.py          a bar, tables, and a report's files
    report_folder.py   names of a report's files, and what an earlier one left in its folder
    trace_file.py      trace files as commands are given them, and how they are meant
"""
