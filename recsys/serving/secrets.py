"""Secrets come from files, which the list of processes does not show."""

from pathlib import Path

from recsys.errors import InputError


def read_secret(path: str) -> str:
    """What a file holds, without white space around it.

    Raises:
        InputError: it cannot be read, or holds nothing.
    """
    try:
        secret = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not secret:
        raise InputError(f"{path}: expected a secret, found nothing")
    return secret
