"""Calibration: the simulator's timing model fitted to steps that were measured, and its file.

Owns the form of what is measured and the fit. Pure; measures nothing itself: `radixroute.live` does
from outside, `bench.calibration` at the engine.

The way in: `fit` in `fitting.py`.

    calibration_file.py   a calibration as a file: rows, and for people what was fitted to them
    fitting.py            a timing and a way out of rows, and how well they say them
    least_squares.py      least squared relative errors, coefficients not negative
    rows.py               what was measured: steps of an engine, or what its clients saw
"""
