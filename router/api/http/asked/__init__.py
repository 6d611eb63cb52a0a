"""What clients of the OpenAI door ask: from the bytes of a body to `Asked`.

Pure; never quotes a value.

The way in: `read_body` in `bodies.py`.

    bodies.py           what a client sent, its prompts still as bytes
    fields.py           which fields of a body are spoken, dropped or refused
    parts.py            whether a chat is text alone, and a guess of its length
    verbatim_body.py    a body that goes to another's engine as it is
    openai_request.py   a prompt of a body as `Asked`
    model_defaults.py   what a model's makers want of sampling
"""
