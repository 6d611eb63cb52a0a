"""The demo: chats through a real cluster under three policies, compared. `make demo` runs it."""
