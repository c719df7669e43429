"""The clients: sessions that echo until they end, and record how they ended."""

import asyncio
import collections
import random
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

RESPONSE_TIMEOUT = 10  # seconds for an echo or a handshake


class Session:
    """One client. `code` is None while it is open, 1006 if the connection ended without a Close frame."""

    def __init__(self, number, connection):
        self.number = number
        self.connection = connection
        self.sent = self.echoed = self.wrong = 0
        self.last_sent = time.monotonic()
        self.code = None
        self.ended = None
        self.leaving = False

    async def echo(self, pause):
        """Sends messages. The next message received must be the echo, and no other message is allowed until the next one is due."""
        due = random.uniform(0, pause)
        try:
            while True:
                await self.expect_silence(due)
                if self.leaving:
                    return
                message = f"session {self.number}, message {self.sent}"
                self.sent += 1
                self.last_sent = time.monotonic()
                await self.connection.send(message)
                answer = await asyncio.wait_for(self.connection.recv(), RESPONSE_TIMEOUT)
                self.echoed += 1
                self.wrong += answer != message
                due = pause
        except ConnectionClosed as closed:
            if not self.leaving:
                self.ended = time.monotonic()
                self.code = closed.rcvd.code if closed.rcvd else 1006
        except TimeoutError:
            self.ended, self.code = time.monotonic(), "silent"

    @property
    def lost(self):
        """The number of messages without an echo; a message that is in flight does not count."""
        over = self.code is not None or time.monotonic() - self.last_sent > 2
        return self.sent - self.echoed if over else 0

    async def expect_silence(self, seconds):
        try:
            await asyncio.wait_for(self.connection.recv(), seconds)
            self.wrong += 1
        except TimeoutError:
            pass


class Crowd:
    """All sessions of one measurement. Sessions that close by themselves are no longer counted, except for their lost messages."""

    def __init__(self, address, tls, pause):
        self.address, self.tls, self.pause = address, tls, pause
        self.sessions = []
        self.gone = []
        self.tasks = set()
        self.refused = 0

    async def connect(self, host):
        return await connect(
            f"wss://{host}:{self.address[1]}/",
            host=self.address[0],
            ssl=self.tls,
            proxy=None,
            compression=None,
            ping_interval=None,
            open_timeout=RESPONSE_TIMEOUT,
            close_timeout=2,
        )

    async def open(self, count, host):
        dials = asyncio.Semaphore(16)

        async def one():
            async with dials:
                try:
                    session = Session(len(self.sessions) + len(self.gone), await self.connect(host))
                except Exception:  # Refused by TCP, TLS or HTTP.
                    self.refused += 1
                    return
            self.sessions.append(session)
            task = asyncio.create_task(session.echo(self.pause))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        await asyncio.gather(*(one() for _ in range(count)))

    async def leave(self, count):
        """Closes the oldest open sessions that wait for no echo, with 1000, as clients do."""
        idle = [session for session in self.sessions if session.code is None and session.sent == session.echoed]
        oldest = idle[:count]
        for session in oldest:
            session.leaving = True
            self.sessions.remove(session)
            self.gone.append(session)
        await asyncio.gather(*(session.connection.close() for session in oldest))

    async def works(self, host):
        """Returns whether a new session for this host opens."""
        try:
            await (await self.connect(host)).close()
            return True
        except Exception:  # Refused by TLS, HTTP or a reset.
            return False

    @property
    def open_now(self):
        return sum(session.code is None for session in self.sessions)

    def outcome(self, since):
        ended = [session for session in self.sessions if session.code is not None]
        all_sessions = self.sessions + self.gone
        codes = collections.Counter(str(session.code) for session in ended)
        bare = sum(count for code, count in codes.items() if code in ("1006", "silent"))
        return {
            "sessions": len(self.sessions),
            "refused": self.refused,
            "ended": len(ended),
            "still_open": len(self.sessions) - len(ended),
            "codes": dict(sorted(codes.items())),
            "close_frames": len(ended) - bare,
            "bare": bare,
            "peak_per_second": peak([session.ended for session in ended]),
            "over_seconds": round(max((session.ended for session in ended), default=since) - since, 1),
            "messages": sum(session.sent for session in all_sessions),
            "messages_lost": sum(session.lost for session in all_sessions),
            "messages_wrong": sum(session.wrong for session in all_sessions),
        }

    async def end(self):
        for task in list(self.tasks):
            task.cancel()
        for session in self.sessions:
            session.connection.transport.abort()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def peak(moments):
    """Returns the maximum number in any interval of one second."""
    recent, maximum = collections.deque(), 0
    for moment in sorted(moments):
        recent.append(moment)
        while recent[0] <= moment - 1:
            recent.popleft()
        maximum = max(maximum, len(recent))
    return maximum
