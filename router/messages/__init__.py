"""Messages of the core: what goes in, what comes out. Frozen records; token ids stay packed.

Whoever drives the core (the runtime, a simulation) makes the inputs and performs the actions.

    inputs.py         requests to route, workers' answers, facts about workers
    actions.py        what `RouterCore` wants done
    answer_sink.py    where the answer to one request goes: what a door brings along
"""
