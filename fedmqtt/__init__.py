"""What both programs agree on: topics, messages, weights, and the link that carries them."""

__version__ = "0.1.0"
