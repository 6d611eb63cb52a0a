"""events.session: the state of one native event stream at whoever follows it.

Owns which epoch counts, which batch is next, what waits and what is asked for. Sans I/O: `now_ns`
comes in, actions go out; never touches the index, whose account it compares with each heartbeat's.
"Session" means this class only; in prose it is a client's.

The way in: `StreamSession` (`stream_session.py`); its life is the table in `states.py`.

    stream_session.py   `StreamSession`: every input, what it leads to; what a gap does
    states.py           states, causes and the table of transitions
    actions.py          what a stream asks its caller to do
    order.py            what comes next, what waits, what must exist
    requests.py         the one outstanding request, and when the next may go out
    assembly.py         snapshot parts put together
    counters.py         what happened; nothing is dropped without one
"""
