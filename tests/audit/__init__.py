"""The audit of workers' claims: its parts alone, and over real engines and event streams.

A map of the files:

    fleet.py               real schedulers, caches and streams around a real router, in virtual time
    workers.py             one worker of it: model, life, wires, and what befalls all
    lies.py                what a worker may do to its events before they are published
    hand_made.py           one worker whose batches and reports are made by hand
    test_journal.py        the index as it was, against brute force
    test_audit.py          judging, credit and its return, on hand-made streams
    test_window.py         the same where workers cannot say when they looked
    test_honest_fleet.py   no false alarm, whatever the races
    test_lies.py           planted lies cost credit soon, and the liar's alone
"""
