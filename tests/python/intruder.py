"""Another user's try to take over: `intruder.py NAME-OF-THE-OFFER`. Prints what it received."""

import os
import socket
import sys

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
door.connect("\0" + sys.argv[1])
words, descriptors, *_ = door.recvmsg(4096, socket.CMSG_SPACE(64))
print(f"{words} and {len(descriptors)} descriptors" if words or descriptors else "nothing", flush=True)
