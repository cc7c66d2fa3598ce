"""Memory for bytes that arrive in pieces: of its own pages, given back when nobody reads them."""

import mmap
import sys

from protocol.wire import Buffer

_MADV_POPULATE_WRITE = 23
"""Of Linux 5.14 and later; Python has no name for it."""


class FreshMemory:
    """Zeros, not yet touched: a page costs time only when it is filled.

    Not a bytearray, which is filled with zeros at once while no other thread runs; nor a NumPy
    array, which asks Linux for huge pages: where a virtual machine has given those back to its
    host, each costs milliseconds.

    Raises:
        MemoryError: there is no room, or no address, for so much.
    """

    def __init__(self, num_bytes: int) -> None:
        try:
            self._map = mmap.mmap(-1, num_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError, ValueError) as error:
            raise MemoryError(f"no memory for {num_bytes} bytes") from error
        self._populates = sys.platform == "linux"
        self.data = memoryview(self._map)
        """All of it; the pages live as long as a view of them."""

    def fill(self, start: int, piece: Buffer) -> None:
        """Write a piece at `start`, its pages fetched at once rather than by a fault each."""
        if self._populates and piece:
            begin = start - start % mmap.PAGESIZE
            try:
                self._map.madvise(_MADV_POPULATE_WRITE, begin, start + len(piece) - begin)
            except OSError:  # an older kernel; then by faults
                self._populates = False
        self.data[start : start + len(piece)] = piece
