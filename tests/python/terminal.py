"""Runs a program on a pseudo-terminal: `terminal.py WIDTH PROGRAM ARGUMENT...`. Copies to stdout what the terminal shows.

With `--stderr` before the width, only the program's stderr is the terminal; its stdout is inherited.
"""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

only_stderr = sys.argv[1] == "--stderr"
width, *program = sys.argv[2:] if only_stderr else sys.argv[1:]
controller, terminal = pty.openpty()
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, int(width), 0, 0))
out = subprocess.DEVNULL if only_stderr else terminal
child = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=out, stderr=terminal)
os.close(terminal)
while True:
    try:
        data = os.read(controller, 4096)
    except OSError:  # EIO: the program has closed the terminal
        break
    if not data:
        break
    sys.stdout.buffer.write(data)
child.wait()
