"""What both programs agree on: topics, messages, chunks, weights, and the link that carries them."""

__version__ = "0.1.0"
