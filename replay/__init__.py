"""Workloads and traces, and what any router could reach on them. No wall clock, no socket."""
