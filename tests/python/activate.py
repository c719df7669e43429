"""systemd's part in socket activation (sd_listen_fds(3)): opens sockets and becomes the program that gets them.

activate.py ADDRESS[,ADDRESS ...] PROGRAM ARGUMENT ...  where an address is HOST:PORT, or the path of a Unix socket
"""

import os
import socket
import sys

FIRST = 3

opened = []
for address in sys.argv[1].split(","):
    if address.startswith("/"):
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(address)
    else:
        host, port = address.rsplit(":", 1)
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind((host, int(port)))
    listening.listen()
    opened.append(listening)

# Out of the way first: one of them may have the number that another is to get.
spare = [os.dup2(listening.fileno(), FIRST + 100 + index) for index, listening in enumerate(opened)]
for index, descriptor in enumerate(spare):
    os.dup2(descriptor, FIRST + index, inheritable=True)
    os.close(descriptor)
os.environ.update(LISTEN_FDS=str(len(opened)), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
