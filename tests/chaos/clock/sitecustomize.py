"""Loaded by every Python process of a chaos run: a clock that the run can set back.

The file named by CHAOS_CLOCK holds the seconds to add, as one double.
"""

import mmap
import os
import struct
import time

_file = os.environ.get("CHAOS_CLOCK")
if _file is not None:
    with open(_file, "rb") as _opened:
        _offset = mmap.mmap(_opened.fileno(), 8, access=mmap.ACCESS_READ)
    _time, _time_ns, _unpack = time.time, time.time_ns, struct.Struct("d").unpack
    time.time = lambda: _time() + _unpack(_offset[:8])[0]
    time.time_ns = lambda: _time_ns() + int(1e9 * _unpack(_offset[:8])[0])
