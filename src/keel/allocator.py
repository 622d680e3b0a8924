"""Keeps freed memory in the process, on glibc.

By default glibc gives every large block back to the kernel as soon as it is freed, and takes it again, page by page,
for the next tensor. Where page faults are dear (virtual machines) that costs more time than the arithmetic.
"""

from __future__ import annotations

import ctypes
import platform

# Names and numbers as in malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Serve large blocks from the heap and never trim it; True where the allocator took all three settings.

    Call it before the first large tensor. On systems without glibc it does nothing and returns False.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20))
    return all(mallopt(name, value) == 1 for name, value in settings)
