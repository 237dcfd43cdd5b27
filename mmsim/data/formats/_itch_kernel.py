"""The scanner of NASDAQ ITCH 5.0: picks the messages of one stock out of a block of a full-day file."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import kernel

# length of every message of ITCH 5.0, by its letter
LENGTHS = {
    "S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21, "A": 36, "F": 40,
    "E": 31, "C": 36, "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40, "B": 19, "I": 50, "N": 20, "O": 48,
}  # fmt: skip
MORE, END, UNKNOWN_TYPE, WRONG_LENGTH, BACKWARDS, FULL, NO_ADD_SIDE = 0, 1, 2, 3, 4, 5, 6
# columns of the picked messages
LETTER, TIME, REF, NEW_REF, SHARES, PRICE, SIDE, NUMBER = range(8)
# columns of `state`
S_LOCATE, S_COUNT, S_TIME, S_SYMBOLS, S_TYPE, S_LENGTH = range(6)


def length_table() -> Any:
    """Return the lengths by letter, 0 for an unknown one."""
    out = np.zeros(256, dtype=np.int64)
    for letter, length in LENGTHS.items():
        out[ord(letter)] = length
    return out


@kernel
def _number(buf: Any, at: Any, size: Any) -> Any:
    value = np.int64(0)
    for k in range(size):
        value = (value << 8) | np.int64(buf[at + k])
    return value


@kernel
def scan(
    buf: Any, stop: int, lengths: Any, symbol: Any, state: Any, names: Any, out: Any
) -> tuple[int, int, int]:
    """Walk over messages in ``buf[:stop]`` and write those of the wanted stock to `out`.

    Parameters
    ----------
    buf : (>= stop,) uint8 array
        Messages, each after its length as two bytes.
    lengths : (256,) int64 array
        Of `length_table`.
    symbol : (8,) uint8 array
        Wanted stock, padded with spaces; all spaces: the first of the directory.
    state : (6,) int64 array
        Kept from block to block: the stock's locate code (-1: not met yet), messages so far, time of the
        last one, stocks in the directory, and letter and length of a message that is wrong.
    names : (65536, 8) uint8 array
        Directory: name by locate code.
    out : (capacity, 8) int64 array

    Returns
    -------
    status, used, rows : int
        MORE (all whole messages are read), END, or what is wrong; bytes read; rows of `out` in use.
    """
    pos: Any = 0
    n = 0
    time: Any = state[2]
    locate: Any = state[0]
    count, symbols = state[1], state[3]
    status = 0
    while pos + 2 <= stop:
        length = (np.int64(buf[pos]) << 8) | np.int64(buf[pos + 1])
        if length == 0:  # end of session
            status = 1
            pos += 2
            break
        if pos + 2 + length > stop:
            break
        letter = np.int64(buf[pos + 2])
        if lengths[letter] != length:
            status = 2 if lengths[letter] == 0 else 3
            state[4], state[5] = letter, length
            count += 1
            break
        if n >= out.shape[0]:
            status = 5
            break
        count += 1
        at = pos + 2
        pos += 2 + length
        here = (np.int64(buf[at + 1]) << 8) | np.int64(buf[at + 2])
        if letter == 82:  # R: the stock directory
            symbols += 1
            same, any_symbol = True, True
            for k in range(8):
                names[here, k] = buf[at + 11 + k]
                same = same and buf[at + 11 + k] == symbol[k]
                any_symbol = any_symbol and symbol[k] == 32
            if same or (any_symbol and locate < 0):
                locate = here
        if here != locate:
            continue
        # A 65, F 70, E 69, C 67, X 88, D 68, U 85, P 80, Q 81, B 66
        if not (
            letter == 65
            or letter == 70
            or letter == 69
            or letter == 67
            or letter == 88
            or letter == 68
            or letter == 85
            or letter == 80
            or letter == 81
            or letter == 66
        ):
            continue
        stamp = _number(buf, at + 5, 6)
        if stamp < time:
            status = 4
            break
        time = stamp
        out[n, 0], out[n, 1], out[n, 7] = letter, stamp, count
        out[n, 2] = _number(buf, at + 11, 8)
        out[n, 3], out[n, 4], out[n, 5], out[n, 6] = 0, 0, 0, 0
        if letter == 65 or letter == 70 or letter == 80:
            if buf[at + 19] == 66:
                out[n, 6] = 1
            elif buf[at + 19] == 83:
                out[n, 6] = -1
            else:
                status = 6
                break
            out[n, 4] = _number(buf, at + 20, 4)
            out[n, 5] = _number(buf, at + 32, 4)
        elif letter == 69 or letter == 88:
            out[n, 4] = _number(buf, at + 19, 4)
        elif letter == 67:
            out[n, 4] = _number(buf, at + 19, 4)
            out[n, 6] = 1 if buf[at + 31] == 89 else 0  # printable
            out[n, 5] = _number(buf, at + 32, 4)
        elif letter == 85:
            out[n, 3] = _number(buf, at + 19, 8)
            out[n, 4] = _number(buf, at + 27, 4)
            out[n, 5] = _number(buf, at + 31, 4)
        elif letter == 81:  # shares take the place of the reference, the price stands elsewhere
            out[n, 4] = out[n, 2]
            out[n, 2] = 0
            out[n, 5] = _number(buf, at + 27, 4)
        n += 1
    state[0], state[1], state[2], state[3] = locate, count, time, symbols
    return status, pos, n
