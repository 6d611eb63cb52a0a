"""Programs: requests that wait for each other, as agents make them. How they are read and followed.

Owns what becomes of dependencies between requests: from the rows of foreign traces to `Trace.after`
and `Trace.joins`, and from an end to whoever comes after it. Formats here are known by `files`.

    agentic_mooncake.py   rows with wait_for and branches, as AIPerf and Dynamo replay them
    dynamo_requests.py    Dynamo's request trace: dependencies from times and trajectories
    follow_ups.py         who comes when others have ended
    graph.py              rows that name each other, in any order, into a draft
"""
