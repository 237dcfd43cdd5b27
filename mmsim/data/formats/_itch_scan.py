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
# first byte and number of bytes of these columns in the messages that matter
_ADD = {REF: (11, 8), SIDE: (19, 1), SHARES: (20, 4), PRICE: (32, 4)}
_TAKE, _BARE = {REF: (11, 8), SHARES: (19, 4)}, {REF: (11, 8)}
FIELDS = {
    **dict.fromkeys("AFP", _ADD),
    **dict.fromkeys("EX", _TAKE),
    "C": {
        REF: (11, 8),
        SHARES: (19, 4),
        SIDE: (31, 1),
        PRICE: (32, 4),
    },  # (the side: 1 if it is to be printed)
    **dict.fromkeys("DB", _BARE),
    "U": {REF: (11, 8), NEW_REF: (19, 8), SHARES: (27, 4), PRICE: (31, 4)},
    "Q": {SHARES: (11, 8), PRICE: (27, 4)},
}
# columns of `state`
S_LOCATE, S_COUNT, S_TIME, S_SYMBOLS, S_TYPE, S_LENGTH = range(6)


def length_table() -> Any:
    """Return the lengths by letter, 0 for an unknown one."""
    out = np.zeros(256, dtype=np.int64)
    for letter, length in LENGTHS.items():
        out[ord(letter)] = length
    return out


def field_table() -> Any:
    """Return first byte and number of bytes of each column, by letter; 0 for what a message has not."""
    out = np.zeros((256, 8, 2), dtype=np.int64)
    for letter, fields in FIELDS.items():
        for column, place in fields.items():
            out[ord(letter), column] = place
    return out


@kernel
def _number(buf: Any, at: Any, size: Any) -> Any:
    value = np.int64(0)
    for k in range(size):
        value = (value << 8) | np.int64(buf[at + k])
    return value


@kernel
def scan(
    buf: Any, stop: int, lengths: Any, fields: Any, symbol: Any, state: Any, names: Any, out: Any
) -> tuple[int, int, int]:
    """Walk over messages in ``buf[:stop]`` and write those of the wanted stock to `out`.

    Parameters
    ----------
    buf : (>= stop,) uint8 array
        Messages, each after its length as two bytes.
    lengths : (256,) int64 array
        Of `length_table`.
    fields : (256, 8, 2) int64 array
        Of `field_table`: messages without any are passed over.
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
        if not fields[letter].any():
            continue
        stamp = _number(buf, at + 5, 6)
        if stamp < time:
            status = 4
            break
        time = stamp
        out[n, 0], out[n, 1], out[n, 7] = letter, stamp, count
        for column in range(2, 7):
            out[n, column] = _number(buf, at + fields[letter, column, 0], fields[letter, column, 1])
        if letter == 67:  # C
            out[n, 6] = 1 if out[n, 6] == 89 else 0  # Y
        elif fields[letter, 6, 1] > 0:
            if out[n, 6] != 66 and out[n, 6] != 83:  # B, S
                status = 6
                break
            out[n, 6] = 1 if out[n, 6] == 66 else -1
        n += 1
    state[0], state[1], state[2], state[3] = locate, count, time, symbols
    return status, pos, n
