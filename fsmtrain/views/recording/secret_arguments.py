"""Mask the secrets in a command line before it is recorded: ``--api_key abc`` becomes ``--api_key ***``."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"

# The last word of a name, or its last two, that say "secret". Names of tokens of a vocabulary do not.
_SECRET_WORDS = frozenset(
    [
        "password",
        "passwd",
        "passphrase",
        "passcode",
        "pwd",
        "secret",
        "secrets",
        "token",
        "credential",
        "credentials",
        "apikey",
        "accesskey",
        "secretkey",
    ]
)
_SECRET_KEYS = frozenset(
    [
        "api",
        "access",
        "secret",
        "private",
        "auth",
        "account",
        "encryption",
        "license",
        "ssh",
        "signing",
        "wandb",
        "hf",
        "openai",
        "comet",
    ]
)
_VOCABULARY = frozenset(
    [
        "pad",
        "mask",
        "eos",
        "bos",
        "unk",
        "sep",
        "cls",
        "start",
        "end",
        "stop",
        "special",
        "image",
        "audio",
        "video",
        "first",
        "last",
        "next",
        "max",
        "min",
    ]
)

# A name, "=" or ":", and its value. The look-behind lets a match begin only where a name does, so that the time is linear.
_ASSIGNMENT = re.compile(
    r"""(?<![\w.\-])(?P<name>[\w.\-]++)(?P<equals>["']?(?:=|:(?!//))\s?)(?P<value>"[^"]*+"|'[^']*+'|[^\s,;&?}\])]++)"""
)
_URL_PASSWORD = re.compile(r"(?P<before>\w://[^\s/@:]*:)[^\s/@]+(?=@)")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def is_secret_name(name: str) -> bool:
    """Return whether a flag or key of this name has a secret as its value.

    >>> [is_secret_name(name) for name in ("--wandb-api-key", "hfToken", "DB_PASSWORD", "secret")]
    [True, True, True, True]
    >>> [is_secret_name(name) for name in ("--pad_token", "tokens", "max_tokens", "key_dim", "label_key", "monkey")]
    [False, False, False, False, False, False]
    """
    words = [word.lower() for word in _WORD.findall(name)]
    before, last = (words[-2] if len(words) > 1 else ""), (words[-1] if words else "")
    if last == "key":
        return before in _SECRET_KEYS
    return last in _SECRET_WORDS and before not in _VOCABULARY


def mask_secrets(command: Iterable[str]) -> list[str]:
    """Return a command line with the values of flags, keys and URLs masked that look like secrets.

    >>> mask_secrets(["train.py", "--api_key", "abc", "--token=x", "--hparams", "lr=0.1,password=y", "db://me:z@host"])
    ['train.py', '--api_key', '***', '--token=***', '--hparams', 'lr=0.1,password=***', 'db://me:***@host']
    """
    masked: list[str] = []
    value_is_secret = False
    for word in command:
        if value_is_secret and not word.startswith("--"):
            masked.append(MASK)
            value_is_secret = False
            continue
        flag, equals, _ = word.partition("=")
        is_secret_flag = word.startswith("-") and is_secret_name(flag)
        value_is_secret = is_secret_flag and not equals
        if is_secret_flag and equals:
            word = f"{flag}={MASK}"
        masked.append(_URL_PASSWORD.sub(rf"\g<before>{MASK}", _ASSIGNMENT.sub(_mask_assignment, word)))
    return masked


def _mask_assignment(match: re.Match[str]) -> str:
    return f"{match['name']}{match['equals']}{MASK}" if is_secret_name(match["name"]) else match[0]
