"""Tries to take over as another user: `intruder.py NAME-OF-THE-OFFER`. Prints what it received."""

import os
import socket
import sys

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
channel.connect("\0" + sys.argv[1])
message, descriptors, *_ = channel.recvmsg(4096, socket.CMSG_SPACE(64))
print(f"{message} and {len(descriptors)} descriptors" if message or descriptors else "nothing", flush=True)
