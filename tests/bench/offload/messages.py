"""Messages of a chat, about 1 KiB of JSON: a few entries with repeated keys, and with varying names, times, ids and words."""

import json

WORDS = """the a to of and in that is was for on with you it not be at have we are this will when can there all one
out so they what about up time message server deploy review morning thanks tomorrow meeting later works again please look
problem version window socket latency coffee release branch merge failed passed green deadline customer update question
answer maybe really probably before after because between nothing something always never quickly slowly together""".split()
NAMES = "alice bob carol dave erin frank grace heidi ivan judy mallory niaj olivia peggy rupert sybil trent victor".split()


def message(rng):
    """Returns a random message; `rng` is the random generator."""
    return json.dumps({
        "type": "room.history",
        "room": f"room-{rng.randrange(400)}",
        "entries": [
            {
                "id": f"{rng.getrandbits(64):016x}",
                "user": {"id": rng.randrange(100_000), "name": rng.choice(NAMES), "online": rng.random() < 0.5},
                "sent_at": f"2026-11-21T{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}Z",
                "text": " ".join(rng.choices(WORDS, k=rng.randrange(8, 18))),
                "edited": False,
                "reactions": rng.randrange(6),
            }
            for _ in range(4)
        ],
    })
