"""An agent on the official Python SDK, 2.x.

One JSON command a line comes in, one answer a line goes out: {"ok": ...} or {"error": "..."}, and {"progress": n} while a
call runs.
"""

import asyncio
import json
import os
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


def say(**message):
    print(json.dumps(message), flush=True)


def why(error):
    """An error's own words; of a group, those of its parts."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(why(part) for part in error.exceptions)
    return f"{type(error).__name__}: {error} (HTTP {last_status})"


last_status = None


async def remember(response):
    """The library does not always say which status it was refused with."""
    global last_status
    last_status = response.status_code


async def progress(done, total, message):
    say(progress=done)


async def follow(client, command):
    if command["do"] == "list":
        return say(ok=[tool.name for tool in (await client.list_tools()).tools])
    result = await client.call_tool(command["tool"], command["arguments"], progress_callback=progress)
    text = "\n".join(getattr(part, "text", part.type) for part in result.content)
    return say(error=text) if result.is_error else say(ok=text)


async def main():
    headers = {"Authorization": f"Bearer {os.environ['TRUSTRELAY_TOKEN']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=300, event_hooks={"response": [remember]}) as http:
        transport = streamable_http_client(sys.argv[1], http_client=http)
        async with Client(transport, mode=os.environ["TRUSTRELAY_E2E_MODE"]) as client:
            say(ok="connected")
            while line := await asyncio.to_thread(sys.stdin.readline):
                try:
                    await follow(client, json.loads(line))
                except Exception as error:
                    say(error=why(error))


try:
    asyncio.run(main())
except Exception as error:
    say(error=why(error))
    sys.exit(1)
