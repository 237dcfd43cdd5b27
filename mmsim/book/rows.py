"""Orders by id: the hash table of ids, and the rows of ``orders`` that are taken and given back."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmsim._jit import fetch, hot_kernel, inline_kernel
from mmsim.bits import leading_zeros
from mmsim.book.layout import STOPPED

U = np.uint64  # array indices are unsigned: numba adds a test for negative ones to the others
LOW = 0xFFFFFFFF
ROW = STOPPED - 1  # the row in a slot; the bit above it is STOPPED, the upper half the tag
FOUND = ROW | STOPPED
_TAG = 0x7FFFFFFF
_MUL_LOW, _MUL_HIGH = 0x4F1BBCDD, 0x5851F42D  # 31 bits: products of 32-bit halves stay below 2**63


@inline_kernel
def tag_of(oid: int) -> int:
    """Return the 31 bits by which the hash table knows `oid`; their upper bits are its home slot."""
    return (((oid & LOW) * _MUL_LOW) ^ (((oid >> 32) & LOW) * _MUL_HIGH)) & _TAG


@inline_kernel
def shift_of(slots: Any) -> int:
    """Return by how many bits a tag is shifted to become a slot: 31 - log2 of their number."""
    return leading_zeros(U(len(slots))) - 32


@hot_kernel
def slot_of(book: Any, oid: int) -> int:
    """Return the slot of `oid`, or the empty one where it would go."""
    slots = book.slots
    last = len(slots) - 1
    tag = tag_of(oid)
    slot = tag >> shift_of(slots)
    while True:
        word = slots[U(slot)]
        if word == 0 or ((word >> 32) == tag and book.extra[U(word & ROW)].oid == oid):
            return slot
        slot = (slot + 1) & last


@inline_kernel
def expect(book: Any, oid: int) -> None:
    """Prepare for a request about `oid`: its slot is likely to be far from the others used last."""
    fetch(book.slots, tag_of(oid) >> shift_of(book.slots))


@hot_kernel
def enter(book: Any, s: Any, slot: int, oid: int, owner: int, stopped: int) -> int:
    """Take a free row for order `oid` and write it into its empty slot; the caller knows that there is one."""
    row = s.free
    if row != 0:
        s.free = np.int64(book.orders[U(row)].next)
    else:
        row = s.top
        s.top = row + 1
    s.live += 1
    book.extra[U(row)].oid = oid
    book.extra[U(row)].owner = owner
    book.slots[U(slot)] = (tag_of(oid) << 32) | stopped | row
    return row


@hot_kernel
def leave(book: Any, s: Any, slot: int, row: int) -> None:
    """Forget the id in `slot`, whose order has left its queue, and free its row."""
    # Later slots of the run move back, so that no tombstone is left.
    slots = book.slots
    last, shift = len(slots) - 1, shift_of(slots)
    hole = slot
    while True:
        slot = (slot + 1) & last
        word = slots[U(slot)]
        if word == 0:
            break
        if ((slot - (word >> (32 + shift))) & last) >= ((slot - hole) & last):
            slots[U(hole)] = word
            hole = slot
    slots[U(hole)] = 0
    book.orders[U(row)].qty = 0
    book.orders[U(row)].next = s.free
    s.free = row
    s.live -= 1
