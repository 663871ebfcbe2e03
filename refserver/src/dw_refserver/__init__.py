"""A small reference server for the public Durable Workflow v2 protocol.

Requests come in through `http`, are judged by `engine`, kept by `store` and announced by `wake`.
"""

__version__ = "0.2.0"
