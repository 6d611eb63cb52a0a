"""The command line: commands, their options, and how results look on a terminal.

Owns what users type and see: names, flags, tables, JSON, exit codes. Decides nothing about routing,
events or replays: each command asks the rooms below, and imports what is heavy only when it runs,
so that `--help` answers at once. Called by `radixroute.__main__`; nothing imports it.

The way in: `app.py`, then the file of a command.

    app.py                the application made of the commands, and where errors become exit codes
    cluster/              `up`, `serve`, `down`, `config`, `warm`
    submit.py             `submit`
    answers.py            what is shown of the answers to one prompt
    router/               `workers`, `hits`, `explain`, `misses`, `shadow`, `switch`
    doctor/               `doctor`
    policies.py           `policies`
    completion.py         `completion`
    events/               `events record`, `events show`, `events replay`
    kv/                   `kv plan`, `kv lab`
    replay/               `replay run`, `diff`, `synth`, `capture`, `plan`
    compile_progress.py   lines while kernels compile
    console.py            tables, JSON, and one line for an error
    context.py            the settings of a command
    reported_errors.py    errors of the rooms below, with our exit codes
    router_address.py     where the router is
"""
