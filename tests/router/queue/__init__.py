"""The one queue of a router: its order, its bounds, and what an input costs however many wait."""
