"""Makes every open of a file hang until this program ends: `hang.py FILE`. Prints `ready`, and `held` per open.

Uses permission events of fanotify(7), which need CAP_SYS_ADMIN. A process that hangs in this way can be killed.
"""

import ctypes
import os
import sys

FAN_CLASS_CONTENT, FAN_CLOEXEC, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD = 4, 1, 1, 0x10000, -100

libc = ctypes.CDLL(None, use_errno=True)
group = libc.fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, os.O_RDONLY)
if group < 0:
    sys.exit(f"fanotify_init: {os.strerror(ctypes.get_errno())}")
if libc.fanotify_mark(group, FAN_MARK_ADD, ctypes.c_uint64(FAN_OPEN_PERM), AT_FDCWD, os.fsencode(sys.argv[1])) < 0:
    sys.exit(f"fanotify_mark: {os.strerror(ctypes.get_errno())}")
print("ready", flush=True)
while os.read(group, 4096):
    print("held", flush=True)
