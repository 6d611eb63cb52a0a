"""`python -m bench.policy`: the default policy judged against every other, on a fixed grid.

Owns the workloads, what each fleet can take of them, paired draws and what they come to. Begin with
`__main__.py`.

    __main__.py     the options; the whole run, the table and the file
    grid.py         settings, draws, and what one run gives
    judgement.py    rivals chosen, paired differences, the bars
    limits.py       means of paired differences, with 95 % limits
    runs.py         runs made by several processes, kept and made once
    table.py        what is printed
    tuning.py       constants of the default varied: chosen on one half, judged on the other
    variants.py     the default with other constants
    workloads.py    the workloads by name, in two halves
"""
