"""Answers: what the engine put out, as text and as the messages that a caller gets. Pure.

The way in: `AnswerStream` (`streams.py`).

    streams.py      one answer as text: detokenised, cut at stop strings, resumed
    plain_texts.py  what tokens say wherever they stand: such answers go past their stream
    wire.py         messages of outputs and answers
"""
