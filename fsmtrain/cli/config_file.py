"""``--config FILE``: flags and hyperparameters in a YAML or TOML file, with the values and the errors of the command line."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_type_hints

from attrs import Factory, define, field, fields, frozen
from cyclopts import Group, Parameter

from fsmtrain.cli.import_target import build_data_module
from fsmtrain.cli.parse_values import allows_mapping, is_none, parse_hparams, union_members
from fsmtrain.cli.value_reader import quoted, read_word
from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.errors import MissingExtraError, ModelError, UsageError
from fsmtrain.flags.unknown_flags import no_such_flag
from fsmtrain.mask_secrets import mask_text
from fsmtrain.options import Options
from fsmtrain.plain_files import read_plain_file
from fsmtrain.replace_file import replace_file
from fsmtrain.runtime.checkpoint_files.codec.codec_common import expect_spread
from fsmtrain.runtime.model_files.hparams import HParams, hparams_to_dict

CHECKPOINT, GUARDS, DATA = "checkpoint", "guards", "data"  # keys beside the flags
HPARAMS, DATA_HPARAMS = "hparams", "data_hparams"
PYTHON_ONLY = frozenset({"logger"})  # flags whose values are objects, which cannot be typed

MAX_CONFIG_BYTES = 2**20
MAX_KEY_PARTS = 100  # joined by dots
MAX_EXPANSION = 10  # nodes of YAML for each character, with each alias replaced by what it stands for

_FLAGS = {f.name for f in fields(Options)} - PYTHON_ONLY


@frozen
class ConfigFile:
    """What a file says.

    Attributes:
        path: The file.
        text: Its text, to be kept beside the run.
        flags: Values by flag, those of ``checkpoint`` included; a dict for a flag with parts.
        hparams: The hyperparameters of the model.
        guards: ``MODULE:NAME``; None if there is none.
        data: ``MODULE:CLASS`` of the data module; None if there is none.
        data_hparams: Its hyperparameters.
        checkpoint: When to save, for commands that have no flag for it; None if the run does not.
        checkpoints: The rules of a list of them.
    """

    path: Path
    text: str = field(repr=False)
    flags: Mapping[str, Any]
    hparams: Mapping[str, Any]
    guards: str | None
    data: str | None = None
    data_hparams: Mapping[str, Any] = field(factory=dict)
    checkpoint: ModelCheckpoint | None = None
    checkpoints: tuple[ModelCheckpoint, ...] = ()


@define
class RecordConfig:
    """A callback that copies the file into the run's folder, once that is there, with its secrets masked."""

    config: ConfigFile
    _is_written: bool = False
    _file: str = Factory(lambda self: f"config{self.config.path.suffix}", takes_self=True)

    def on_epoch_start(self, machine: Any) -> None:
        self._write(machine.run_dir)

    def on_run_end(self, machine: Any) -> None:
        self._write(machine.run_dir)

    def _write(self, folder: Path | None) -> None:
        if folder is not None and not self._is_written:
            text = mask_text(self.config.text, {HPARAMS: self.config.hparams, DATA_HPARAMS: self.config.data_hparams})
            if text is None:
                text = f"# {self.config.path} has secrets that cannot be masked in its text, so it was not copied.\n"
            with suppress(OSError):  # recording has failed, and has warned
                replace_file(folder / self._file, text.encode())
            self._is_written = True


def read_config(path: str | os.PathLike[str]) -> ConfigFile:
    """Read a file of flags and hyperparameters.

    Raises:
        UsageError: It cannot be read, or has a key twice.
        OptionsError: A key is no flag; the message has the similar one.
        MissingExtraError: It is YAML, and the package that reads it is not installed.
    """
    path = Path(path)
    load = _LOADERS.get(path.suffix.lower())
    if load is None:
        raise UsageError(f"--config {path}: must be a YAML or TOML file, so its name must end in {', '.join(_LOADERS)}.")
    try:
        text = read_plain_file(path, MAX_CONFIG_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: {getattr(error, 'strerror', None) or error}.") from error
    try:
        content = load(text, path) or {}
    except RecursionError:
        raise UsageError(f"--config {path}: its values are nested too deep.") from None
    if not isinstance(content, Mapping):
        raise UsageError(f"--config {path}: must be a mapping from flags to values, as in max_nb_epochs: 20.")
    known = _FLAGS | {CHECKPOINT, GUARDS, DATA, HPARAMS, DATA_HPARAMS}
    settings: dict[str, Any] = {}
    for key, value in content.items():
        name, _, part = str(key).replace("-", "_").partition(".")
        if name not in known:
            raise UsageError(f"--config {path}: {no_such_flag(name, value, known)} Hyperparameters belong under hparams.")
        if part and isinstance(settings.setdefault(name, {}), dict):
            settings[name][part] = value
        elif name in settings:
            raise UsageError(f"--config {path}: {name} occurs twice.")
        else:
            settings[name] = value
    hparams = {key: settings.pop(key, None) for key in (HPARAMS, DATA_HPARAMS)}
    names = {key: settings.pop(key, None) for key in (GUARDS, DATA)}
    rules = settings.get(CHECKPOINT)
    checkpoints: tuple[ModelCheckpoint, ...] = ()
    if isinstance(rules, list) and all(isinstance(rule, Mapping) for rule in rules):
        checkpoints = tuple(_checkpoint(rule, path) for rule in settings.pop(CHECKPOINT))
    elif not isinstance(rules, (Mapping, bool, NoneType)):
        raise UsageError(
            f"--config {path}: {CHECKPOINT}={rules!r}: must be true, false or a mapping, or a list of mappings for several "
            f"rules: in TOML [[checkpoint]], in YAML - {{monitor: val_loss}}."
        )
    for key, name in names.items():
        if not isinstance(name, (str, NoneType)):
            raise UsageError(f"--config {path}: {key}={name!r}: must be MODULE:NAME.")
    plain = {key: _plain_hparams(value, f"--config {path}", key) for key, value in hparams.items()}
    return ConfigFile(path, text, settings, plain[HPARAMS], names[GUARDS], names[DATA], plain[DATA_HPARAMS], None, checkpoints)


def _checkpoint(rule: Mapping[str, Any], path: Path) -> ModelCheckpoint:
    """Return one of several rules for saving."""
    hints = {f.name: get_type_hints(ModelCheckpoint)[f.name] for f in fields(ModelCheckpoint)}
    for name, value in rule.items():
        if name not in hints:
            raise UsageError(f"--config {path}: {CHECKPOINT}: {no_such_flag(str(name), value, set(hints))}")
    return ModelCheckpoint(**{name: flag_value(hints[name], value) for name, value in rule.items()})


def _plain_hparams(hparams: Any, where: str, key: str) -> dict[str, Any]:
    if not isinstance(hparams, (Mapping, NoneType)):
        raise UsageError(f"{where}: {key}={hparams!r}: must be a mapping from names to values.")
    try:
        return hparams_to_dict(hparams)
    except ModelError as error:
        raise UsageError(f"{where}: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{where}: {key}: a value contains itself.") from error


def hparams_of(config: ConfigFile | None, typed: Sequence[str] | None) -> HParams | None:
    """Return the hyperparameters of the file and those that were typed, which win; None if there are none."""
    return _joined(config.hparams if config else {}, parse_hparams(typed or ()))


def data_module_of(config: ConfigFile | None, target: str | None, typed: Sequence[str] | None) -> Any:
    """Return the data module that was typed, or that of the file, built with its hyperparameters; None if there is none."""
    hparams = _joined(config.data_hparams if config else {}, parse_hparams(typed or (), DATA_HPARAMS))
    return build_data_module(target or (config.data if config else None), hparams)


def _joined(of_file: Mapping[str, Any], typed: HParams) -> HParams | None:
    hparams = {**of_file, **vars(typed)}
    return HParams(**hparams) if hparams else None


def flag_value(hint: Any, value: Any) -> Any:
    """Return a flag's value from a file: keys of a dict as ints and ``"none"`` as None, since TOML has neither."""
    if isinstance(value, str) and NoneType in union_members(hint) and is_none(value):
        return None
    if isinstance(value, Mapping) and allows_mapping(hint):
        keys = [read_word(key) if isinstance(key, str) else key for key in value]
        return dict(zip(_spread(keys, "a flag"), value.values(), strict=True))
    return value


def _spread(keys: list[Any], where: str) -> list[Any]:
    """Return keys that are not made to have one hash.

    Raises:
        UsageError: They are.
    """
    try:
        expect_spread(keys)
    except ValueError as error:
        raise UsageError(f"{where}: {error}.") from None
    return keys


# The parts of a key of TOML, joined by dots. `++` and `*+` never go back: so a search takes linear time.
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_PARTS}}}")


def _load_toml(text: str, path: Path) -> Any:
    if _LONG_KEY.search(text):  # of which tomllib takes quadratic time
        raise UsageError(f"--config {path}: a key has more than {MAX_KEY_PARTS} parts.")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--config {path}: {error}.") from error


def _load_yaml(text: str, path: Path) -> Any:
    """Load YAML whose plain values are read as typed ones are, so that ``1e-3`` is a number, and ``no`` an error."""
    try:
        import yaml
    except ImportError:
        raise MissingExtraError(
            f"--config {path}: reading YAML needs a package: pip install 'fsmtrain[yaml]'. A TOML file needs none."
        ) from None

    resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile("<<"))]}  # of plain values: none but that of merge keys
    loader_class: Any = type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": resolvers})

    def scalar(loader: Any, node: Any) -> Any:
        if node.style is not None:
            return node.value
        try:
            return None if node.value in ("", "~") else read_word(node.value)
        except UsageError as error:
            line = node.start_mark.line + 1
            raise UsageError(f"--config {path}, line {line}: {error} A text needs quotes: {quoted(node.value)}.") from error

    def mapping(loader: Any, node: Any) -> Any:
        line = node.start_mark.line + 1
        keys = [(loader.construct_object(key, deep=True), key) for key, _ in node.value if key.value != "<<"]
        hashable = [key for key, _ in keys if isinstance(key, Hashable)]  # others are an error of the package
        before = set[Any]()
        for key in _spread(hashable, f"--config {path}, line {line}"):
            if key in before:
                line = [node for other, node in keys if other == key][1].start_mark.line + 1
                raise UsageError(f"--config {path}, line {line}: {key} occurs twice.")
            before.add(key)
        items: dict[Any, Any] = {}
        yield items
        items.update(loader.construct_mapping(node, deep=True))

    loader_class.add_constructor("tag:yaml.org,2002:str", scalar)
    loader_class.add_constructor("tag:yaml.org,2002:map", mapping)
    loader = loader_class(text)  # a subclass of the safe one
    try:
        root = loader.get_single_node()
        if root is not None and _expanded_size(root, {}) > MAX_EXPANSION * len(text) + MAX_EXPANSION:
            raise UsageError(f"--config {path}: its aliases stand for many times as much as the file has.")
        return None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        raise UsageError(f"--config {path}: {error}") from error
    finally:
        loader.dispose()


def _expanded_size(node: Any, known: dict[int, int]) -> int:
    """Return how many nodes a node of YAML has if each alias is replaced by what it stands for. Each is counted once."""
    size = known.get(id(node))
    if size is None:
        known[id(node)] = 1  # for a node that contains itself, which is an error later
        value = node.value
        inner = value if isinstance(value, list) else ()
        parts = (part for item in inner for part in (item if isinstance(item, tuple) else (item,)))
        size = known[id(node)] = 1 + sum(_expanded_size(part, known) for part in parts)
    return size


_LOADERS: dict[str, Callable[[str, Path], Any]] = {".yaml": _load_yaml, ".yml": _load_yaml, ".toml": _load_toml}

ConfigOption = Annotated[
    ConfigFile | None,
    Parameter(
        name="--config",
        group=Group("Input and output", sort_key=0),
        metavar="FILE",
        converter=lambda _, tokens: read_config(tokens[0].value),
        n_tokens=1,
        accepts_keys=False,
        negative=(),
        help="A YAML or TOML file of flags, of hparams, guards, data, data_hparams and checkpoint. What is typed wins.",
    ),
]
