"""Pseudo-random permutations with random access: shuffled orders that need no memory."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import NDArray

# Constants and shifts of the generator splitmix64.
_STEP, _FIRST_FACTOR, _SECOND_FACTOR = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1

# From 16 rounds on, 60,000 keys show no order of 3 to 7 items that comes up more often than another. With 12, the 720 orders of
# 6 items were distinguishable.
_ROUNDS = 16

_Words = NDArray[np.uint64]


def hash_words(key: int, word: int) -> int:
    """Return a pseudo-random hash, 64 bits, of two numbers of 64 bits.

    >>> hex(hash_words(0, 0)), hex(hash_words(0, 1))
    ('0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4')
    """
    x = (key + (word + 1) * _STEP) & _MASK
    x = ((x ^ (x >> 30)) * _FIRST_FACTOR) & _MASK
    x = ((x ^ (x >> 27)) * _SECOND_FACTOR) & _MASK
    return x ^ (x >> 31)


class Permutation:
    """An order of the numbers from 0 to n - 1, one per key.

    A Feistel network over pairs: a number is ``left * columns + right``, and each round shifts one half by a hash of the other.
    A round can be undone, so no two numbers collide. The rectangle holds a few numbers more than n; a result beyond n is
    permuted again until it is below n.

    Args:
        n: How many numbers.
        key: 64 bits.
    """

    def __init__(self, n: int, key: int) -> None:
        self.n = n
        rows = isqrt(max(n - 1, 0)) + 1
        columns = -(-n // rows)
        columns += columns % 2  # with two odd sides only half of the orders could occur
        self._sides = np.uint64(rows), np.uint64(columns)
        self._keys = np.array([hash_words(key, i) for i in range(_ROUNDS)], dtype=np.uint64)

    def between(self, start: int, stop: int) -> list[int]:
        """Return the numbers at the positions from `start` up to, not including, `stop`.

        >>> Permutation(10, key=7).between(0, 10)
        [1, 4, 5, 2, 3, 0, 9, 8, 7, 6]
        >>> Permutation(10**15, key=7).between(10**14, 10**14 + 2)
        [503155489502489, 979260139247173]
        """
        numbers = self._permute(np.arange(start, stop, dtype=np.uint64))
        is_beyond = numbers >= np.uint64(self.n)
        while is_beyond.any():
            numbers[is_beyond] = self._permute(numbers[is_beyond])
            is_beyond = numbers >= np.uint64(self.n)
        values: list[int] = numbers.tolist()
        return values

    def _permute(self, numbers: _Words) -> _Words:
        rows, columns = self._sides
        left, right = np.divmod(numbers, columns)
        for i, key in enumerate(self._keys):
            if i % 2:
                right = _shift(right, left, key, columns)
            else:
                left = _shift(left, right, key, rows)
        permuted: _Words = left * columns + right
        return permuted


def _shift(half: _Words, other: _Words, key: np.uint64, side: np.uint64) -> _Words:
    """Shift one half around its side by a hash of the other half and the key."""
    x = (other + np.uint64(1)) * np.uint64(_STEP) + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_FIRST_FACTOR)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_SECOND_FACTOR)
    shift = ((x >> np.uint64(32)) * side) >> np.uint64(32)  # 0 to side - 1; the top half of the bits as a fraction
    sums = half + shift
    return np.where(sums >= side, sums - side, sums)
