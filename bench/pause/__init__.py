"""Do giant prompts make other streams wait? Begin with `__main__.py`.

chats.py    what a chat costs that grows by turns, with and without a memo: `make bench-chats`
giants.py   the clients that send them, as a process
gaps.py     what counts as a pause, in milliseconds
router.py   a whole router, as a process
worker.py   a fake worker whose model takes millions of tokens, as a process
"""
