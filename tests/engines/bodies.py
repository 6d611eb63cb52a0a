"""What tests of verbatim requests send."""

import json
from typing import Any

CANARY = "a-canary-that-nobody-may-repeat"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MESSAGES = [{"role": "user", "content": "how is the weather in Rome"}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBOR" * 100}}
CHAT: dict[str, Any] = {"model": "fake-model", "messages": MESSAGES, "max_tokens": 6}
WITH_TOOLS = {**CHAT, "tools": [TOOL], "tool_choice": "auto"}
STREAM = {**WITH_TOOLS, "stream": True}
# Spaces and an order that nobody would make again.
RAW = (
    b'{"tools" :[%s],\n "max_tokens":5, "messages":  [{"role":"user", "content":"caf\\u00e9 %s"}],'
    b' "seed":1e0, "n":1 }'
) % (json.dumps(TOOL).encode(), CANARY.encode())
JSON = "application/json"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
