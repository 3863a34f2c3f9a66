"""Where a federation's ledgers are, as its settings say it: `ledger = "postgresql://..."`."""

from urllib.parse import parse_qsl, urlsplit

from fedmqtt.settings import SettingsError

IN_FOLDERS = "sqlite"
_SCHEMES = ("postgresql", "postgres")
_SECRETS = ("password", "sslpassword")
_EXPECTED = f'expected "{IN_FOLDERS}" or "postgresql://USER@HOST/DATABASE"'


def check(text: str) -> None:
    """Raises SettingsError; repeats nothing that may be a password."""
    if text == IN_FOLDERS:
        return
    scheme, mark, _ = text.partition("://")
    if not mark or scheme not in _SCHEMES:
        raise SettingsError(f"ledger is {shown(text)!r}: {_EXPECTED}")
    try:
        url = urlsplit(text)
        asked = {key for key, _ in parse_qsl(url.query)}
    except ValueError as bad:
        raise SettingsError(f"ledger is {shown(text)!r}: {bad}; {_EXPECTED}") from bad
    if url.password is not None or asked & {*_SECRETS}:
        raise SettingsError(
            f"ledger is {shown(text)!r} with a password in it: settings are shown around. Leave it"
            " out, and give it in the file ~/.pgpass or that PGPASSFILE names, or in PGPASSWORD"
        )


def shown(text: str) -> str:
    """Without a password, and without what follows a question mark."""
    head = text.partition("?")[0]
    scheme, mark, rest = head.partition("://")
    if not mark or "@" not in rest:
        return head
    who, _, where = rest.rpartition("@")
    return f"{scheme}://{who.partition(':')[0]}@{where}"
