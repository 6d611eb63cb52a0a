"""The commands about event streams: `events record`, `events show`, `events replay`.

The way in: `command.py`.

    command.py           the group and its commands
    lines.py             recordings as lines, cells and JSON values
    tables.py            recordings on the console
    recording_file.py    a recording that a command is given: opened, a point in it, its end
    recording_run.py     a recording while it is made
"""
