"""The queue between two sound devices."""

import numpy as np

from denoiser.audio.jitter import JitterBuffer


def run(buffer: JitterBuffer, pace: list[int], block: int = 10) -> np.ndarray:
    """Return what is taken, a block a turn, of the numbers 1, 2, 3 ..., put in so many blocks a turn."""
    given, taken = 1, []
    for blocks in pace:
        for _ in range(blocks):
            buffer.put(np.arange(given, given + block, dtype=np.float32))
            given += block
        taken.append(buffer.take(block))
    return np.concatenate(taken)


def test_an_even_pace_gives_every_sample_at_one_delay():
    buffer = JitterBuffer(block=10, window=1000)
    taken = run(buffer, [1] * 300)
    assert not taken[:10].any()
    assert (taken[10:] == np.arange(1, 2991)).all()
    assert buffer.lost == 0


def test_blocks_in_bursts_make_a_gap_once_and_then_none():
    buffer = JitterBuffer(block=10, window=1000)
    taken = run(buffer, [0, 0, 0, 4] * 100)
    heard = taken[taken > 0]
    assert (heard == np.arange(1, len(heard) + 1)).all()
    assert buffer.lost <= 4
    assert (taken[100:] > 0).all()


def test_a_faster_microphone_makes_no_growing_delay():
    buffer = JitterBuffer(block=10, window=200)
    taken = run(buffer, ([1] * 49 + [2]) * 100)
    # As much is dropped as one device is ahead of the other, and what is left is in order.
    assert (np.diff(taken[20:]) > 0).all()
    assert 51_000 - taken[-1] <= 60
    assert buffer.lost > 0


def test_a_slower_microphone_makes_gaps_and_no_silence():
    buffer = JitterBuffer(block=10, window=200)
    taken = run(buffer, ([1] * 49 + [0]) * 100)
    heard = taken[taken > 0]
    assert (heard == np.arange(1, len(heard) + 1)).all()
    assert len(heard) > 0.97 * len(taken)


def test_samples_that_nobody_takes_do_not_pile_up():
    buffer = JitterBuffer(block=10, window=200)
    for _ in range(1000):
        buffer.put(np.ones(10, np.float32))
    assert buffer.lost > 0
    heard = np.concatenate([buffer.take(10) for _ in range(100)])
    assert heard.sum() <= 210


def test_a_cleared_queue_begins_anew():
    buffer = JitterBuffer(block=10, window=200)
    run(buffer, [1] * 5)
    buffer.clear()
    assert not buffer.take(10).any()
