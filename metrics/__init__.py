"""Metrics: what a process shows of itself at `/metrics`, declared in tables, read when asked.

Owns how a metric is declared, what a name must look like, the page in Prometheus' formats and the
small server that hands it out. Knows no metric of a room: each room that has some brings a table of
them, and a record of what they are read from. Nothing is paid until somebody asks.

The way in: `Metric` declares, `Page` renders, `MetricsServer` serves.

    metric.py         one metric: name, kind, unit, labels, help and where its values come from
    distribution.py   values in fixed buckets, as plain numbers
    few_names.py      a bounded set of label values out of names that others choose
    board.py          a Grafana dashboard made of tables
    page.py           tables as text; alone knows `prometheus_client`
    server.py         GET /metrics over HTTP, in the loop of whoever starts it
    loop_lag.py       how late an event loop is
    own.py            metrics that every process has: its scrapes and its loop's lag
"""
