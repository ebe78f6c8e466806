"""The selective scan compiled for the CPU by numba (https://numba.pydata.org), on tokens with their channels last.

The innermost loops run over `WIDTH` channels and become vector instructions. A unit of work is one group of one example
and `WIDTH` of its channels; units are independent, so threads share them. Scans visit the tokens in the order that they
are given, so tokens are never copied into an order. Only the states at the borders of chunks are stored; the backward
pass recomputes those between them. `compiled.py` calls these functions; importing this file needs numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["CHUNK", "WIDTH", "backward", "forward"]

CHUNK = 32
"""Positions between two states that the forward pass stores."""
WIDTH = 64
"""Channels of a unit of work: their states stay in the processor's innermost cache."""

ZERO = np.float32(0)
LN2 = np.float32(math.log(2))
ROUNDING = np.float32(1.5 * 2**23)  # adding it to z leaves the integer next to z in the last bits
SMALLEST = np.float32(-100)  # 2^-100 times a state is zero next to anything, and not yet a slow denormal
TAYLOR = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(7))
"""2^r = Σ TAYLOR[n]·r^n, to 1.2e-7 for |r| ≤ 1/2: the precision of float32."""

FAST = {"contract", "reassoc", "nsz", "arcp"}
"""Sums in any order and fused multiply-adds; NaN and infinity are kept."""


@intrinsic
def _times_power(_: Any, x: Any, power: Any) -> tuple[Any, Callable[..., Any]]:
    """x·2^n, where the last bits of `power` are n: added to the exponent of x."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        integer = ir.IntType(32)
        mantissa, n = (builder.bitcast(arg, integer) for arg in args)
        shifted = builder.shl(n, ir.Constant(integer, 23))
        return builder.bitcast(builder.add(mantissa, shifted), ir.FloatType())

    return types.float32(types.float32, types.float32), generate


@njit(fastmath={"contract"})
def _exp2(z: Any) -> Any:
    """2^z for z ≤ 0."""
    z = max(z, SMALLEST)
    power = z + ROUNDING
    r = z - (power - ROUNDING)
    p = TAYLOR[6]
    p = p * r + TAYLOR[5]
    p = p * r + TAYLOR[4]
    p = p * r + TAYLOR[3]
    p = p * r + TAYLOR[2]
    p = p * r + TAYLOR[1]
    return _times_power(p * r + TAYLOR[0], power)


@njit
def _load_rates(rate: Any, a: Any, k: int, first: int, size: int) -> None:
    """The block of a (K, N, E) from channel `first`; channels that fill it up do not decay."""
    for n in range(len(rate)):
        for v in range(WIDTH):
            rate[n, v] = a[k, n, first + v] if v < size else ZERO


def forward(
    units: tuple[int, int],
    u: np.ndarray,
    delta: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    d: np.ndarray,
    order: np.ndarray,
    y: np.ndarray,
    states: np.ndarray,
) -> None:
    """Fill in y and states for a range of units.

    u (1 or K, B, L, E), delta after its softplus and y (K, B, L, E), a divided by ln 2 (K, N, E), b and c
    (B, L, K, N), d (K, E), order (K, L), states (units, chunks, N, WIDTH).
    """
    num_groups, _, length, channels = delta.shape
    num_states = a.shape[1]
    blocks = -(-channels // WIDTH)
    rate = np.zeros((num_states, WIDTH), np.float32)
    h = np.zeros((num_states, WIDTH), np.float32)
    dt = np.zeros((CHUNK, WIDTH), np.float32)
    x, out = np.zeros_like(dt), np.zeros_like(dt)
    for unit in range(units[0], units[1]):
        first, k, i = unit % blocks * WIDTH, unit // blocks % num_groups, unit // blocks // num_groups
        size = min(WIDTH, channels - first)
        _load_rates(rate, a, k, first, size)
        for v in range(WIDTH):
            for s in range(CHUNK):
                dt[s, v] = x[s, v] = ZERO  # channels that fill up the last block stay zero
            for n in range(num_states):
                h[n, v] = ZERO
        for chunk in range((length + CHUNK - 1) // CHUNK):
            start = chunk * CHUNK
            steps = min(CHUNK, length - start)
            for s in range(steps):
                token = order[k, start + s]
                for v in range(size):
                    value, time = u[k % len(u), i, token, first + v], delta[k, i, token, first + v]
                    dt[s, v], x[s, v], out[s, v] = time, time * value, d[k, first + v] * value
            for n in range(num_states):
                for v in range(WIDTH):
                    states[unit, chunk, n, v] = h[n, v]
                for s in range(steps):
                    token = order[k, start + s]
                    b_n, c_n = b[i, token, k, n], c[i, token, k, n]
                    for v in range(WIDTH):
                        state = _exp2(dt[s, v] * rate[n, v]) * h[n, v] + b_n * x[s, v]
                        h[n, v] = state
                        out[s, v] += c_n * state
            for s in range(steps):
                token = order[k, start + s]
                for v in range(size):
                    y[k, i, token, first + v] = out[s, v]


def backward(
    units: tuple[int, int],
    u: np.ndarray,
    delta: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    d: np.ndarray,
    order: np.ndarray,
    states: np.ndarray,
    dy: np.ndarray,
    du: np.ndarray,
    ddelta: np.ndarray,
    da: np.ndarray,
    db: np.ndarray,
    dc: np.ndarray,
    dd: np.ndarray,
) -> None:
    """Fill in the gradients for a range of units, by the formulas in `__init__.py`.

    As for `forward`; the gradient dy of the output, du and ddelta are (K, B, L, E), da (B, K, N, E), dd (B, K, E), and
    db and dc (blocks of channels, B, L, K, N).
    """
    num_groups, _, length, channels = delta.shape
    num_states = a.shape[1]
    blocks = -(-channels // WIDTH)
    rate = np.zeros((num_states, WIDTH), np.float32)
    g, sum_a = np.zeros_like(rate), np.zeros_like(rate)
    dt = np.zeros((CHUNK, WIDTH), np.float32)
    x, value, given = np.zeros_like(dt), np.zeros_like(dt), np.zeros_like(dt)
    sum_x, sum_q = np.zeros_like(dt), np.zeros_like(dt)
    decay, carry = np.zeros_like(dt), np.zeros_like(dt)  # A_l and A_l·h_{l−1} of one state
    h, sum_d = np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    for unit in range(units[0], units[1]):
        block, k, i = unit % blocks, unit // blocks % num_groups, unit // blocks // num_groups
        first = block * WIDTH
        size = min(WIDTH, channels - first)
        _load_rates(rate, a, k, first, size)
        for v in range(WIDTH):
            sum_d[v] = ZERO
            for n in range(num_states):
                g[n, v] = sum_a[n, v] = ZERO
            for s in range(CHUNK):
                dt[s, v] = x[s, v] = given[s, v] = ZERO
        for chunk in range((length - 1) // CHUNK, -1, -1):
            steps = min(CHUNK, length - chunk * CHUNK)
            for s in range(steps):
                token = order[k, chunk * CHUNK + s]
                for v in range(size):
                    own, time = u[k % len(u), i, token, first + v], delta[k, i, token, first + v]
                    value[s, v], dt[s, v], x[s, v] = own, time, time * own
                    given[s, v] = dy[k, i, token, first + v]
                for v in range(WIDTH):
                    sum_x[s, v] = sum_q[s, v] = ZERO
            for n in range(num_states):
                for v in range(WIDTH):
                    h[v] = states[unit, chunk, n, v]
                for s in range(steps):
                    b_n = b[i, order[k, chunk * CHUNK + s], k, n]
                    for v in range(WIDTH):
                        factor = _exp2(dt[s, v] * rate[n, v])
                        kept = factor * h[v]
                        decay[s, v] = factor
                        carry[s, v] = kept
                        h[v] = kept + b_n * x[s, v]
                for s in range(steps - 1, -1, -1):
                    token = order[k, chunk * CHUNK + s]
                    b_n, c_n = b[i, token, k, n], c[i, token, k, n]
                    sum_b, sum_c = ZERO, ZERO
                    for v in range(WIDTH):
                        gradient, kept = g[n, v] + c_n * given[s, v], carry[s, v]
                        q = gradient * kept
                        sum_b += gradient * x[s, v]
                        sum_c += (kept + b_n * x[s, v]) * given[s, v]
                        sum_x[s, v] += gradient * b_n
                        sum_q[s, v] += q * rate[n, v]
                        sum_a[n, v] += q * dt[s, v]
                        g[n, v] = gradient * decay[s, v]
                    db[block, i, token, k, n] = sum_b
                    dc[block, i, token, k, n] = sum_c
            for s in range(steps):
                token = order[k, chunk * CHUNK + s]
                for v in range(size):
                    du[k, i, token, first + v] = dt[s, v] * sum_x[s, v] + d[k, first + v] * given[s, v]
                    ddelta[k, i, token, first + v] = LN2 * sum_q[s, v] + value[s, v] * sum_x[s, v]
                    sum_d[v] += value[s, v] * given[s, v]
        for v in range(size):
            dd[i, k, first + v] = sum_d[v]
            for n in range(num_states):
                da[i, k, n, first + v] = sum_a[n, v]
