"""Giant prompts are read in processes of their own, so that no stream waits for one.

Whatever Python does with two megabytes of text or 200,000 messages, it does with the interpreter's
lock: parsing, rendering and unpacking in another thread hold the router's loop all the same. Here
a prompt goes out as the bytes it came in and comes back as token ids; the lock is let go of
meanwhile. Never logs a prompt.

The way in: `GiantReaders` in `readers.py`.

    readers.py    the processes: started when needed, asked one prompt at a time, started again
    child.py      the process itself
    forms.py      forms in which doors have a prompt, and how each becomes tokens
    json_prompts.py   prompts of OpenAI's API as JSON
    ids_kernels.py    lists of token ids among them, in machine code
    messages.py   what crosses the socket between them, as bytes
"""
