"""The demo: chats through a real cluster under three policies, compared. `make demo` runs it.

Owns the workload, the model it runs on, the order of runs, and the record and tables of the result.
Never routes and never simulates: everything goes through the router's gRPC door, as for any client.
Needs the extras `ray` and `worker`. Installed without a checkout it works as well: the model then
lies in the user's cache folder, the record in the folder one stands in.

The way in: `python -m radixroute.demo`, then `run_demo` in `series.py`.

    __main__.py      options, settings, report
    errors.py        errors of the demo
    machine.py       facts about the machine; benchmarks use them too
    model.py         the model: fetched once, converted
    plan.py          what is compared, and how large the KV pools are
    port.py          the way to the router
    progress.py      whether anything still comes from it
    run.py           one policy's run, judged
    screen.py        what is shown meanwhile
    series.py        the runs one after another; the cluster stopped on every way out
    signals.py       Ctrl-C and its like
    workload/        chats: who says what, when, and how they are sent
    result/          the record, the verdict, and tables
"""
