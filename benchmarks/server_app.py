"""The smallest ASGI application that answers as `torchlink new server` does, for uvicorn: two pool threads."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

torch.set_num_threads(1)
MODEL = torch.jit.load(os.environ["MODEL"])
POOL = ThreadPoolExecutor(2)


def call(body: bytes) -> bytes:
    """Answer one request."""
    (given,) = json.loads(body)
    with torch.inference_mode():
        result = MODEL(torch.tensor(given["value"]).reshape(given["shape"]))
    answer = {
        "type": "tensor",
        "data_type": "float32",
        "shape": list(result.shape),
        "value": result.flatten().tolist(),
    }
    return json.dumps(answer).encode()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Be the application."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/ping":
        answer = b'{"status":"Healthy"}'
    else:
        answer = await asyncio.get_running_loop().run_in_executor(POOL, call, body)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))],
        }
    )
    await send({"type": "http.response.body", "body": answer})
