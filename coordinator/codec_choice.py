"""Which codecs a federation's clients may answer by: the main one, and one for slow links."""

from coordinator.config import FederationConfig
from fedmqtt import codec_chain, messages
from fedmqtt.settings import SettingsError


def main(config: FederationConfig) -> str:
    """Raises SettingsError, like all here."""
    return codec_chain.read(config.codec).text


def slow_links(config: FederationConfig) -> messages.SlowLinks | None:
    """What an offer says of it; None where all clients answer alike."""
    chosen = config.slow_links
    if not chosen.codec:
        return None
    try:
        codec = codec_chain.read(chosen.codec).text
    except SettingsError as bad:
        # It says already that it is a codec.
        raise SettingsError(f"slow_links.{bad}") from bad
    if codec == main(config):
        raise SettingsError(f"slow_links.codec is {codec!r}, as codec is: leave it out")
    return messages.SlowLinks(below_kbps=chosen.below_kbps, codec=codec)


def chains(config: FederationConfig) -> dict[str, codec_chain.Chain]:
    """All that an answer may name, by the name it may give; the main one first."""
    slow = slow_links(config)
    texts = [main(config)] if slow is None else [main(config), slow.codec]
    return {text: codec_chain.read(text) for text in texts}
