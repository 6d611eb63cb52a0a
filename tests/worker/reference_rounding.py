"""KV formats in numpy, written from their definitions: what `rounding` must agree with bit by bit.

Each gives (values' bits, scales or None) of float32 rows (rows, heads, width), and the numbers
again. Nothing is taken from `rounding` or torch.
"""

import numpy as np


def float32(x):
    return x.view(np.uint32), None, x


def float16(x):
    held = np.clip(x, -65504, 65504)
    held[~np.isfinite(x)] = np.nan
    kept = held.astype(np.float16)
    return kept.view(np.uint16), None, kept.astype(np.float32)


def bfloat16(x):
    """The upper half of the float32, after adding half of what is cut off; ties to even."""
    bits = x.view(np.uint32).astype(np.uint64)
    upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    upper = np.where(np.isnan(x), 0x7FC0, upper).astype(np.uint16)
    return upper, None, (upper.astype(np.uint32) << 16).view(np.float32)


def int8(x):
    scales = (np.abs(x).max(axis=-1) / np.float32(127)).astype(np.float32)
    sound = np.isfinite(scales)
    scales[~sound] = np.nan
    scales[sound & (scales < np.float32(2.0**-126))] = 0
    steps = np.zeros(x.shape)
    filled = sound & (scales > 0)
    quotients = (x[filled] / scales[filled][:, None]).astype(np.float32)
    steps[filled] = np.clip(np.rint(quotients), -127, 127)
    values = steps.astype(np.int8)
    return values, scales, values.astype(np.float32) * scales[..., None]


def fp8_e4m3(x):
    """The nearest of all 254 numbers of the format, the even code of two that are as near."""
    numbers = np.array([_e4m3(code) for code in range(127)])
    held = np.minimum(np.abs(np.where(np.isfinite(x), x, 0)).astype(np.float64), 448)
    distances = np.abs(held[..., None] - numbers)
    codes = _even_first(distances)
    codes = np.where(np.signbit(x), codes + 128, codes)
    codes = np.where(np.isfinite(x), codes, 127).astype(np.uint8)
    signs = np.where(codes >= 128, -1.0, 1.0)
    back = signs * numbers[np.minimum(codes & 127, 126)]
    return codes, None, np.where((codes & 127) == 127, np.nan, back).astype(np.float32)


def _e4m3(code):
    exponent, fraction = code >> 3, code & 7
    return fraction * 2.0**-9 if exponent == 0 else (8 + fraction) * 2.0 ** (exponent - 10)


def _even_first(distances):
    even, odd = distances.copy(), distances.copy()
    even[..., 1::2], odd[..., 0::2] = np.inf, np.inf
    nearest_even, nearest_odd = even.argmin(-1), odd.argmin(-1)
    return np.where(even.min(-1) <= odd.min(-1), nearest_even, nearest_odd)


REFERENCES = {
    "float32": float32,
    "float16": float16,
    "bfloat16": bfloat16,
    "int8": int8,
    "fp8_e4m3": fp8_e4m3,
}
