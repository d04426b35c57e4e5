"""Reading beside encoding: order, bounds, errors, and huge pictures among small ones."""

import threading
import time

import numpy as np
import pytest

from discern.features.pipeline import Budget, Crew, encoded

N, SHAPE = 50, (2, 3)
PARTS = [range(i, min(i + 4, N)) for i in range(0, N, 4)]


def buffer():
    return np.full((4, *SHAPE), np.nan, np.float32)


def read(row, out):
    out[...] = row


def first(batch):
    return batch[:, :1, 0].copy()


@pytest.mark.parametrize("crew", [Crew(1, 1, 0), Crew(3, 1, 10**9), Crew(2, 4, 500)], ids=str)
def test_rows_come_in_the_order_of_the_parts(crew):
    def slow(row, out):
        time.sleep(0.002 * (row % 3))
        read(row, out)

    for parts in (PARTS, PARTS[5:] + PARTS[:5]):
        found = list(encoded(parts, slow, first, buffer, crew))
        assert [rows for rows, _ in found] == parts
        assert all((block[:, 0] == list(rows)).all() for rows, block in found)


def test_what_waits_is_bounded_by_bytes():
    lock, seen, most = threading.Lock(), {"read": 0, "done": 0}, []
    size = buffer().nbytes

    def counting(row, out):
        with lock:
            seen["read"] += 1
            most.append(seen["read"] - seen["done"])
        read(row, out)

    made = []

    def one():
        made.append(buffer())
        return made[-1]

    for rows, _ in encoded(PARTS, counting, first, one, Crew(4, 1, 5 * size)):
        time.sleep(0.001)
        with lock:
            seen["done"] += len(rows)
    assert len(made) == 5
    # Five arrays, and the one whose rows were handed out before they were counted.
    assert 4 * 2 < max(most) <= 4 * 6


def test_few_parts_need_few_arrays():
    made = []

    def one():
        made.append(buffer())
        return made[-1]

    assert len(list(encoded(PARTS[:2], read, first, one, Crew(1, 1, 10**9)))) == 2
    assert len(made) == 2


@pytest.mark.parametrize("where", ["read", "encode"])
def test_an_error_ends_all_threads_and_comes_through(where):
    def broken_read(row, out):
        if where == "read" and row == 30:
            raise ValueError("row 30")
        read(row, out)

    def broken_encode(batch):
        if where == "encode" and batch[0, 0, 0] == 28:
            raise ValueError("row 30")
        return first(batch)

    done = []
    found = encoded(PARTS, broken_read, broken_encode, buffer, Crew(3, 2, 500))
    with pytest.raises(ValueError, match="row 30"):
        done.extend(rows for rows, _ in found)
    assert done == PARTS[:7]
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


def test_a_slow_picture_holds_up_neither_its_neighbours_nor_the_encoder():
    ahead, encoding = threading.Event(), threading.Event()

    def reading(row, out):
        if row == 20:  # ends only when what follows was read, and what comes before encoded
            assert ahead.wait(10)
            assert encoding.wait(10)
        if row == 30:
            ahead.set()
        read(row, out)

    def encode(batch):
        if batch[0, 0, 0] == 16:
            encoding.set()
        return first(batch)

    found = list(encoded(PARTS, reading, encode, buffer, Crew(2, 1, 10**9)))
    assert [rows for rows, _ in found] == PARTS


def test_huge_pictures_are_decoded_one_at_a_time_and_small_ones_pass():
    budget, lock = Budget(100), threading.Lock()
    inside, most, passed = [], [], threading.Event()

    def work(amount):
        with budget.take(amount):
            with lock:
                inside.append(amount)
                most.append(sum(inside))
            if amount == 60:
                assert passed.wait(10)  # a small one gets in while a huge one is inside
            else:
                passed.set()
            with lock:
                inside.remove(amount)

    threads = [threading.Thread(target=work, args=(n,)) for n in (60, 60, 60, 1, 1)]
    [t.start() for t in threads]
    [t.join(20) for t in threads]
    assert not any(t.is_alive() for t in threads)
    assert max(most) <= 100


def test_a_picture_larger_than_the_budget_is_let_in_alone():
    budget = Budget(10)
    with budget.take(50):
        pass
    with budget.take(10):
        pass
