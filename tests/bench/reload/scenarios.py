"""The scenarios. Each runs on a new proxy with echoing sessions and returns the figures for the table."""

import asyncio
import json
import sys
import time
from pathlib import Path

import processes
from proxies import until

OWN, OTHER = "a.bench.test", "b.bench.test"


async def reloads(settings, proxy, crowd):
    """Adds a route with each reload. Between two reloads a few of the oldest sessions close and as many open."""
    await asyncio.sleep(settings.settle)
    before = proxy.processes()
    memory = processes.pss_mib(before)
    began, hosts = time.monotonic(), [OWN, OTHER]
    churn = max(1, settings.sessions // (2 * settings.reloads))
    for turn in range(1, settings.reloads + 1):
        hosts.append(f"r{turn}.bench.test")
        await proxy.reload(hosts)
        await crowd.leave(churn)
        await crowd.open(churn, OWN)
        await asyncio.sleep(max(0, began + turn - time.monotonic()))
    in_force = await crowd.works(hosts[-1])
    await asyncio.sleep(settings.left)
    after = proxy.processes()
    return crowd.outcome(began) | {
        "in_force": in_force,
        "processes_before": len(before),
        "processes_left": len(after) - len(before),
        "memory_before": round(memory, 1),
        "memory_left": round(processes.pss_mib(after) - memory, 1),
    }


async def removal(settings, proxy, crowd):
    """Removes the route of all sessions from the configuration."""
    began = time.monotonic()
    await proxy.reload([OTHER])
    await over(settings, lambda: crowd.open_now == 0)
    return crowd.outcome(began) | {"in_force": not await crowd.works(OWN), "processes": len(proxy.processes())}


async def stop(settings, proxy, crowd):
    """Shuts the proxy down gracefully."""
    began = time.monotonic()
    await proxy.stop()
    gone = await over(settings, lambda: not proxy.processes())
    left_after = round(time.monotonic() - began, 1) if gone else None
    await over(settings, lambda: not gone or crowd.open_now == 0)
    return crowd.outcome(began) | {"left_after": left_after}


async def replacement(settings, proxy, crowd):
    """Replaces the binary while clients connect at a fixed rate."""
    knocking = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("knock.py")), str(proxy.port), OWN, str(proxy.folder / "cert.pem"),
        str(settings.rate), str(settings.knocks), stdout=asyncio.subprocess.PIPE,
    )
    try:
        await knocking.stdout.readline()
        await asyncio.sleep(settings.knocks / 5)
        began = time.monotonic()
        await proxy.replace()
        replaced = round(time.monotonic() - began, 1)
        knocks = json.loads(await asyncio.wait_for(knocking.stdout.read(), settings.knocks + 10))
        await asyncio.wait_for(knocking.wait(), 5)
    finally:
        if knocking.returncode is None:
            knocking.kill()
        await knocking.wait()
    await until(proxy.listens, f"the new {proxy.program} listens")
    # If old sessions are closed within a window, it has ended by that time.
    while crowd.open_now and time.monotonic() < began + settings.window + settings.settle:
        await asyncio.sleep(0.05)
    return crowd.outcome(began) | {
        "way": proxy.replaces_by,
        "replaced_after": replaced,
        "knocks": knocks["outcomes"],
        "knocks_failed": sum(count for outcome, count in knocks["outcomes"].items() if outcome != "opened"),
    }


async def over(settings, condition):
    """Returns whether the condition became true within the limit."""
    try:
        async with asyncio.timeout(settings.limit):
            while not condition():
                await asyncio.sleep(0.05)
        return True
    except TimeoutError:
        return False


SCENARIOS = {"reloads": reloads, "removal": removal, "stop": stop, "replacement": replacement}
