"""Uploads bodies to a server that answers before it has read them, and counts the responses that arrive:
`early_client.py BASE-URL CA-FILE REPEATS CLIENTS SIZES PATH=STATUS...`, with lists separated by commas. A client is
requests-1, curl-1, curl-2, aiohttp-1, httpx-1 or httpx-2, where the number is the version of HTTP. Prints one line for
each client, size and path: `CLIENT SIZE PATH STATUS ARRIVED/REPEATS`, and the error of the last one that did not arrive."""

import asyncio
import ssl
import subprocess
import sys
import tempfile

TIMEOUT = 60


def with_requests(url, ca, body, _version, _file):
    import requests

    answer = requests.post(url, data=body, verify=ca, timeout=TIMEOUT)
    return answer.status_code, answer.content


def with_curl(url, ca, _body, version, file):
    # An empty Expect: the body follows at once.
    option = "--http2" if version == "2" else "--http1.1"
    command = ["curl", "-s", "-S", option, "--cacert", ca, "-X", "POST", "-H", "Expect:", "--data-binary", f"@{file}"]
    command += ["-w", "\n%{http_version} %{http_code}", "--max-time", str(TIMEOUT), url]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT + 10)
    content, _, summary = done.stdout.rpartition(b"\n")
    used, status = summary.split()
    # 55 and 56: the upload or the connection ended before the whole body was sent, after the response.
    if done.returncode or used.decode() not in ("2", "1.1"):
        raise RuntimeError(f"curl {done.returncode}, HTTP {used.decode()} {status.decode()}: {done.stderr.decode().strip()}")
    assert used.decode()[0] == version, used
    return int(status), content


def with_aiohttp(url, ca, body, _version, _file):
    import aiohttp

    async def post():
        context = ssl.create_default_context(cafile=ca)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.post(url, data=body, ssl=context) as answer:
                return answer.status, await answer.read()

    return asyncio.run(post())


def with_httpx(url, ca, body, version, _file):
    import httpx

    context = ssl.create_default_context(cafile=ca)
    two = version == "2"
    with httpx.Client(http2=two, http1=not two, verify=context, timeout=TIMEOUT) as client:
        answer = client.post(url, content=body)
        assert answer.http_version == f"HTTP/{'2' if two else '1.1'}", answer.http_version
        return answer.status_code, answer.content


SEND = {"requests": with_requests, "curl": with_curl, "aiohttp": with_aiohttp, "httpx": with_httpx}


def main(base, ca, repeats, clients, sizes, *cases):
    for size in map(int, sizes.split(",")):
        body = b"x" * size
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            for client in clients.split(","):
                name, version = client.split("-")
                for case in cases:
                    path, status = case.rsplit("=", 1)
                    arrived, error = 0, ""
                    for _ in range(int(repeats)):
                        try:
                            seen, content = SEND[name](base + path, ca, body, version, file.name)
                            if (seen, bool(content)) == (int(status), True):
                                arrived += 1
                            else:
                                error = f"{seen} with {len(content)} bytes"
                        except Exception as failure:
                            error = f"{type(failure).__name__}: {failure}"[:160]
                    print(client, size, path, status, f"{arrived}/{repeats}", error, flush=True)


main(*sys.argv[1:])
