"""The model's arithmetic on one CPU thread, by kernels of our own.

Begin with `ops.py` and `backend.py`: what takes the place of torch's operations and of the gather.
torch's way stays for what kernels do not take, for more threads and for other devices.

    attention_kernels.py   attention over block tables, for tokens that come alone
    backend.py             the attention backend over them
    floats.py              numbers at an address, float32 or bfloat16
    ops.py                 the arithmetic between attention calls
    pairs.py               products of bfloat16 pairs, where the processor has them
    product_kernels.py     products of few rows
    row_kernels.py         norms, positions, gates, rows into the pool
    warm.py                loads all kernels
"""
