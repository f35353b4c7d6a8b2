"""Threads for compiled code: a few that stay, are woken for a call, and are never waited for unless they took part.

Numba's own threading layers do not survive a fork, or abort when two threads call at once. Here a call offers its work
to the pool and begins; whoever wakes in time joins (the work is shared out inside, from one counter); when the caller
is through, the offer is withdrawn, and only those who joined are waited for. After a fork the child has a new pool.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

__all__ = ["WORK_FLOOR", "run"]

#: Multiply-adds below which waking another thread costs more than it saves.
WORK_FLOOR = 2_000_000


class _Offer:
    """``places`` more threads may call ``work``; ``inside`` are at it."""

    def __init__(self, work: Callable[[], None], places: int) -> None:
        self.work = work
        self.places = places
        self.inside = 0
        self.error: BaseException | None = None


class _Pool:
    def __init__(self) -> None:
        lock = threading.Lock()
        self.offered = threading.Condition(lock)
        self.left = threading.Condition(lock)
        self.offers: list[_Offer] = []
        self.size = 0

    def run(self, work: Callable[[], None], threads: int) -> None:
        offer = _Offer(work, threads - 1)
        with self.offered:
            while self.size < threads - 1:
                threading.Thread(target=self._serve, name="fastconv-numba", daemon=True).start()
                self.size += 1
            self.offers.append(offer)
            self.offered.notify(threads - 1)
        try:
            work()
        finally:
            with self.left:
                if offer in self.offers:
                    self.offers.remove(offer)
                while offer.inside:
                    self.left.wait()
        if offer.error is not None:
            raise offer.error

    def _serve(self) -> None:
        while True:
            with self.offered:
                while not self.offers:
                    self.offered.wait()
                offer = self.offers[0]
                offer.inside += 1
                offer.places -= 1
                if not offer.places:
                    self.offers.pop(0)
            try:
                offer.work()
            except BaseException as error:
                offer.error = error
            with self.left:
                offer.inside -= 1
                if not offer.inside:
                    self.left.notify_all()


_pool = _Pool()


def _renew() -> None:
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def run(work: Callable[[], None], threads: int) -> None:
    """Call ``work`` in this thread and, at the same time, in up to ``threads - 1`` others; return when all are through.

    An exception in any of them is raised here.
    """
    if threads > 1:
        _pool.run(work, threads)
    else:
        work()
