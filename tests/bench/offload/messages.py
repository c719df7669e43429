"""What a chat would send, about 1 KiB of JSON: a few entries whose keys repeat, with names, times, ids and words that do not."""

import json

WORDS = """the a to of and in that is was for on with you it not be at have we are this will when can there all one
out so they what about up time message server deploy review morning thanks tomorrow meeting later works again please look
problem version window socket latency coffee release branch merge failed passed green deadline customer update question
answer maybe really probably before after because between nothing something always never quickly slowly together""".split()
NAMES = "alice bob carol dave erin frank grace heidi ivan judy mallory niaj olivia peggy rupert sybil trent victor".split()


def message(words):
    """Another one each time; `words` is its source of chance."""
    return json.dumps({
        "type": "room.history",
        "room": f"room-{words.randrange(400)}",
        "entries": [
            {
                "id": f"{words.getrandbits(64):016x}",
                "user": {"id": words.randrange(100_000), "name": words.choice(NAMES), "online": words.random() < 0.5},
                "sent_at": f"2026-11-21T{words.randrange(24):02}:{words.randrange(60):02}:{words.randrange(60):02}Z",
                "text": " ".join(words.choices(WORDS, k=words.randrange(8, 18))),
                "edited": False,
                "reactions": words.randrange(6),
            }
            for _ in range(4)
        ],
    })
