"""Damage to bytes and to trees of plain values."""

import copy
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

# Where counters wrap, signs turn and allocations explode.
NUMBERS = [
    0, 1, 2, 3, 7, 127, 128, 255, 256, 1000, 32_767, 32_768, 65_535, 65_536, 1 << 24, (1 << 30) + 1,
    (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 62) + 1, (1 << 63) - 1, 1 << 63,
    (1 << 64) - 1,
]  # fmt: skip
HEADER = 128  # bytes at the start, which half of the damage goes to


def damaged(rng: random.Random, content: bytes, others: Sequence[bytes] = (), head: int = HEADER) -> bytes:
    """Return ``content`` after one to four accidents, which may take parts of ``others``."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        rng.choice(ACCIDENTS)(rng, data, others, head)
    return bytes(data)


def _place(rng: random.Random, data: bytearray, head: int) -> int:
    """Return a random place, half of the time in the header and a tenth at the end."""
    size = max(1, len(data))
    chance = rng.random()
    if chance < 0.5:
        return rng.randrange(min(head, size))
    return max(0, size - rng.randrange(1, 64)) if chance < 0.6 else rng.randrange(size)


def _flip(rng: random.Random, data: bytearray, others: Sequence[bytes], head: int) -> None:
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        if data:
            data[min(len(data) - 1, _place(rng, data, head))] ^= 1 << rng.randrange(8)


def _number(rng: random.Random, data: bytearray, others: Sequence[bytes], head: int) -> None:
    place, kind = _place(rng, data, head), rng.choice(["<H", ">H", "<I", ">I", "<I", ">I", "<Q", ">Q"])
    size = struct.calcsize(kind)
    data[place : place + size] = struct.pack(kind, rng.choice(NUMBERS) % (1 << 8 * size))


def _random(rng: random.Random, data: bytearray, others: Sequence[bytes], head: int) -> None:
    place = _place(rng, data, head)
    size = rng.choice([1, 4, 30, 300])
    data[place : place + size] = rng.randbytes(size)


def _cut(rng: random.Random, data: bytearray, others: Sequence[bytes], head: int) -> None:
    del data[_place(rng, data, head) :]


def _drop(rng: random.Random, data: bytearray, others: Sequence[bytes], head: int) -> None:
    place = _place(rng, data, head)
    del data[place : place + rng.choice([1, 2, 4, 8, 100, 1000])]


def _double(rng: random.Random, data: bytearray, others: Sequence[bytes], head: int) -> None:
    place = _place(rng, data, head)
    data[place:place] = data[place : place + rng.choice([1, 4, 8, 24, 200, 5000])]


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes], head: int) -> None:
    if others:
        other = rng.choice(others)
        start = rng.randrange(max(1, len(other)))
        data[_place(rng, data, head) :] = other[start:]


def _append(rng: random.Random, data: bytearray, others: Sequence[bytes], head: int) -> None:
    data += rng.choice([rng.randbytes(rng.choice([1, 3, 500])), bytes(rng.choice([1, 100, 70_000]))])


def _swap(rng: random.Random, data: bytearray, others: Sequence[bytes], head: int) -> None:
    one, two = sorted((_place(rng, data, head), _place(rng, data, head)))
    size = min(rng.choice([4, 8, 64]), two - one)
    data[one : one + size], data[two : two + size] = data[two : two + size], data[one : one + size]


ACCIDENTS: list[Callable[[random.Random, bytearray, Sequence[bytes], int], None]] = [
    _flip, _flip, _number, _number, _number, _random, _cut, _drop, _double, _splice, _append, _swap,
]  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# Values that a file may hold in the place of those that are expected.
STRANGE: list[Any] = [
    0, -1, 1, 2, 3, 64, 1000, 1 << 16, 1 << 20, 1 << 30, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 63, 1 << 70, 10**400,
    -(1 << 31), -(1 << 63), 0.0, -0.0, 0.5, 1.5, 1e-300, 1e30, 1e308, float("nan"), float("inf"), float("-inf"), True,
    False, None, "", "3", "none", "gru", "os.system", "../../etc/passwd", "/etc/passwd", "${oc.env:HOME}",
    "two\nlines \x1b[31mand a colour\x07", "long" * 5000, "\ud800", "null", [], [0], [1, 2], [8] * 3000, ["a", None],
    {}, {"name": "os.system"}, {"_target_": "os.system", "command": "touch evil"}, {"": {}}, nested(40), nested(3000),
]  # fmt: skip


def places(tree: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Return every container and key or index of a tree of dicts and lists."""
    if depth > 30 or not isinstance(tree, dict | list):
        return []
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree))
    return [(tree, key) for key, _ in items] + [found for _, value in items for found in places(value, depth + 1)]


def altered(rng: random.Random, tree: Any, strange: Sequence[Any] = STRANGE) -> Any:
    """Return a copy of a tree with one to three values, keys or branches exchanged, lost or made strange."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice([1, 1, 2, 3])):
        found = places(tree)
        if not found:
            return rng.choice(strange)
        holder, key = rng.choice(found)
        chance = rng.random()
        if chance < 0.65:
            holder[key] = rng.choice(strange)
        elif chance < 0.75:
            holder[key] = copy.deepcopy(rng.choice(found)[0])
        elif chance < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[rng.choice(["", "_target_", "n_fft", "extra", f"{key}x"])] = holder.pop(key)
        else:
            holder.append(rng.choice(strange))
    return tree
