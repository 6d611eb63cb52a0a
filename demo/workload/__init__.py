"""The demo's workload: multi-turn chats with a few assistants, and how they are sent.

The way in: `make_workload` in `chats.py`.

    chats.py          who says what, when
    personas.py       the shipped assistants, and what users ask them
    chat_driver.py    a workload sent to a router: closed loop in a chat, a cap over all
    texts/            the assistants' texts
"""
