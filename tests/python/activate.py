"""Socket activation as systemd does it (sd_listen_fds(3)): opens sockets and executes the program that receives them.

activate.py ADDRESS[,ADDRESS ...] PROGRAM ARGUMENT ...  where an address is HOST:PORT, or the path of a Unix socket
"""

import os
import socket
import sys

FIRST_FD = 3

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

# Moved to high numbers first: a socket may have the number that another one must get.
spare = [os.dup2(listening.fileno(), FIRST_FD + 100 + index) for index, listening in enumerate(opened)]
for index, descriptor in enumerate(spare):
    os.dup2(descriptor, FIRST_FD + index, inheritable=True)
    os.close(descriptor)
os.environ.update(LISTEN_FDS=str(len(opened)), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
