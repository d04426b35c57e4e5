"""Memory that runs out, and batches that are chosen so that it does not."""

import threading

import numpy as np
import pytest

from discern.encoders.base import load_encoder
from discern.errors import DiscernError
from discern.features import memory
from discern.features.batches import Batches
from discern.features.memory import Load, available, chosen_batch, fitting


class Small:
    """An encoder whose memory holds ``room`` pictures; its feature is the pictures' mean."""

    d, input_size, device = 1, (2, 2), "a small device"

    def __init__(self, room, error):
        self.room, self.error, self.sizes = room, error, []

    def encode(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise self.error
        return batch.mean(axis=(1, 2, 3))[:, None]


PICTURES = np.random.default_rng(0).random((10, 3, 2, 2), np.float32)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 3.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate 9 bytes"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not execute a primitive"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("Failed to allocate memory for requested buffer of size 3211264"),
    ],
)
def test_out_of_memory_halves_the_batch_and_goes_on(error, caplog):
    encoder = Small(3, error)
    batches = Batches(encoder, 10)
    assert np.allclose(batches.encode(PICTURES)[:, 0], PICTURES.mean(axis=(1, 2, 3)))
    assert encoder.sizes == [10, 5, 2, 2, 2, 2, 2]
    assert "out of memory with 10 pictures" in caplog.text
    assert "going on with 2" in caplog.text
    encoder.sizes.clear()
    batches.encode(PICTURES)
    assert encoder.sizes == [2] * 5


def test_one_picture_that_does_not_fit_is_an_error_with_the_figure():
    error = RuntimeError("CUDA out of memory. Tried to allocate 3.00 GiB")
    with pytest.raises(DiscernError, match=r"not even one picture of 2 x 2 px.*3\.00 GiB"):
        Batches(Small(0, error), 4).encode(PICTURES)


@pytest.mark.parametrize("text", ["mat1 and mat2 shapes", "CUDA error: an illegal memory access"])
def test_other_errors_pass_through(text):
    encoder = Small(0, RuntimeError(text))
    with pytest.raises(RuntimeError, match=text):
        Batches(encoder, 4).encode(PICTURES)
    assert encoder.sizes == [4]


def test_threads_that_run_out_together_go_on_in_turn():
    """Room for three pictures in all, whoever encodes them."""
    lock, used = threading.Lock(), [0]

    class Shared(Small):
        def encode(self, batch):
            with lock:
                used[0] += len(batch)
                full = used[0] > self.room
            try:
                if full:
                    raise self.error
                barrier.wait(0.02) if len(batch) > 1 else None
                return batch.mean(axis=(1, 2, 3))[:, None]
            except threading.BrokenBarrierError:
                return batch.mean(axis=(1, 2, 3))[:, None]
            finally:
                with lock:
                    used[0] -= len(batch)

    barrier = threading.Barrier(2)
    batches = Batches(Shared(3, MemoryError()), 3)
    found = [None, None]

    def work(i):
        found[i] = batches.encode(PICTURES + i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for i in range(2):
        assert np.allclose(found[i][:, 0], PICTURES.mean(axis=(1, 2, 3)) + i)


def test_a_batch_that_fits_leaves_room_for_every_worker():
    load = Load(fixed=100, each=10)
    assert fitting(32, 10_000, load, 1) == 32
    assert fitting(32, 200, load, 1) == 10
    assert fitting(32, 400, load, 2) == 10
    assert fitting(32, 50, load, 1) == 1


NETWORK = {
    "name": "random",
    "loader": {"route": "timm", "arch": "resnet10t", "keys": "random", "seed": 0},
    "preprocess": {"resize": "squash", "size": 256},
    "feature": {"name": "pooled", "d": 512},
}


def test_nothing_is_measured_where_memory_is_plenty(monkeypatch):
    encoder = Small(9, MemoryError())
    encoder.device, picture = "cpu", PICTURES[0]
    enough = 2 * 8 * memory.PLENTY * memory.GUESS * picture.nbytes  # half of it is for batches
    monkeypatch.setattr(memory, "_cpu_load", lambda *_: Load(0, enough))
    monkeypatch.setattr(memory, "available", lambda: enough)
    assert chosen_batch(encoder, picture, "auto", 1) == 8
    assert chosen_batch(encoder, picture, "auto", 2) == 1
    assert encoder.sizes == []


@pytest.mark.skipif(
    available() is None or not memory.CLEAR.exists(),
    reason="reads the free memory from /proc, which Linux alone has",
)
def test_the_batch_follows_the_memory_that_is_free(monkeypatch):
    encoder = load_encoder(NETWORK, {}, "cpu")
    picture = np.zeros((3, 256, 256), np.float32)
    encoder.encode(picture[None])
    each = memory._cpu_load(encoder, picture).each
    assert 2**20 < each < 2**28  # this network: some MiB of activations
    assert chosen_batch(encoder, picture, 5, 1) == 5
    assert chosen_batch(encoder, picture, 20, 1) == chosen_batch(encoder, picture, "auto", 1) == 8
    monkeypatch.setattr(memory, "available", lambda: 16 * memory.GUESS * picture.nbytes)
    monkeypatch.setitem(memory.OPEN, "cpu", 20)
    few = chosen_batch(encoder, picture, 20, 1)
    assert 2 <= few <= 8  # half of the memory
    assert chosen_batch(encoder, picture, 20, 4) <= 2
    assert chosen_batch(encoder, picture, 20, 1, measure=False) == 20
    monkeypatch.setattr(memory, "available", lambda: 0)
    assert chosen_batch(encoder, picture, 20, 1) == 1
