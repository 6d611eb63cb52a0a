"""The KV lab: what a KV cache is worth, measured on this machine, and drawn.

Owns the experiments, their records and the page. Measures small models in this process, asks
nobody, opens no socket. The way in: `run_lab` in `lab.py`. Needs the worker extra (torch).

    lab.py           the experiments in their order, and the report they make
    bench.py         what an experiment works with: models, the machine, how much to do
    subjects.py      the models that are measured, and caches for them
    measuring.py     time, memory and growth, measured
    records.py       what an experiment gives: numbers, plots, tables, a paragraph
    words.py         numbers into words that stay true to them
    text.py          the text that perplexity is measured on
    experiments/     one file an experiment
    page/            the report as one self-contained page, and as small pictures
"""
