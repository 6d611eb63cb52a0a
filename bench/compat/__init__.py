"""`python -m bench.compat`: does NVIDIA Dynamo's indexer understand our compat endpoint?

Owns one question with a yes or no, not a speed. Begin with `__main__.py`.

    __main__.py     the run: publishers here, Dynamo's listeners there, every answer compared
    chats.py        conversations over real prefix caches: the events, and what is true
    dynamo_log.py   the lines of Dynamo's log that it should not have written
    listener.py     Dynamo's side, behind its `SelectionService`
"""
