"""Mask secrets before they are recorded, logged or printed: ``--api_key abc`` becomes ``--api_key ***``.

In command lines, in hyperparameters, and in config files. Checkpoints and files of weights keep hyperparameters as they are:
a model is built from them again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MASK = "***"
MAX_SECRETS = 100  # that a file may have to be masked

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


def mask_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters with the values masked whose names, or whose form, say that they are secrets.

    >>> mask_values({"lr": 0.1, "hf_token": "abc", "db": {"url": "db://me:z@host", "password": 1}, "pad_token": "[PAD]"})
    {'lr': 0.1, 'hf_token': '***', 'db': {'url': 'db://me:***@host', 'password': '***'}, 'pad_token': '[PAD]'}
    """
    return {name: _masked(name, value) for name, value in values.items()}


def mask_text(text: str, values: Mapping[str, Any]) -> str | None:
    """Return the text of a file with the secrets masked that `values`, which was read from it, has.

    Returns:
        None if a secret is written in a way in which it cannot be found: it must not be copied then.

    >>> mask_text("lr: 0.1  # fast\\napi_key: abc\\n", {"lr": 0.1, "api_key": "abc"})
    'lr: 0.1  # fast\\napi_key: "***"\\n'
    """
    text = _URL_PASSWORD.sub(rf"\g<before>{MASK}", text)
    secrets = sorted({str(value) for value in _secrets(values)}, key=len, reverse=True)
    if len(secrets) > MAX_SECRETS:
        return None
    for nb, secret in enumerate(secrets):
        word = re.escape(secret)
        masked = re.sub(rf"""(?P<quote>["']){word}(?P=quote)|(?<![\w.]){word}(?![\w.])""", f'"{MASK}"', text)
        if masked == text and not any(secret in longer for longer in secrets[:nb]):
            return None
        text = masked
    return None if any(secret in text for secret in secrets if secret not in MASK and len(secret) > 2) else text


def _masked(name: object, value: Any) -> Any:
    if value is None or isinstance(value, bool) or value == "":
        return value
    if _is_secret(name):
        return MASK
    if isinstance(value, Mapping):
        return {key: _masked(key, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_masked(None, inner) for inner in value]) if type(value) in (list, tuple) else value
    return _URL_PASSWORD.sub(rf"\g<before>{MASK}", value) if isinstance(value, str) else value


def _secrets(values: Any, name: object = None) -> Iterator[object]:
    """Yield the single values that stand under the name of a secret."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _secrets(value, name if _is_secret(name) else key)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _secrets(value, name)
    elif _is_secret(name) and values is not None and not isinstance(values, bool) and values != "":
        yield values


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and is_secret_name(name)


def _mask_assignment(match: re.Match[str]) -> str:
    return f"{match['name']}{match['equals']}{MASK}" if is_secret_name(match["name"]) else match[0]
