"""The run's config: validated against the JSON schema, completed with its defaults, explained when wrong."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from relmap.catalogue.methods import CATALOGUE
from relmap.catalogue.rows import Rows
from relmap.errors import InputError, nearest
from relmap.job.yaml_files import refuse_endless

SCHEMA = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"
PAPERS = Path(__file__).parents[3] / "papers"


def load(config: Mapping[str, Any], schema: Path = SCHEMA) -> dict[str, Any]:
    """Validate a config and fill in the schema's defaults.

    Args:
        config: the merged config as Snakemake read it.
        schema: JSON schema, as YAML.

    Returns:
        A new, complete config.

    Raises:
        InputError: a key is unknown, a value has the wrong type or range, or two values contradict each other; the
            message names the key, what was found, what is allowed, and the nearest known key.
    """
    refuse_endless(config, "config")
    validator = _validator(schema)
    config = _with_nulls(config)
    _check_finite(config)
    error = best_match(validator.iter_errors(config))
    if error is not None:
        raise InputError(_explain(error))
    complete = _with_defaults(copy.deepcopy(dict(config)), validator.schema, validator.schema)
    _check_crops(complete["models"])
    return complete


def _with_nulls(value: Any) -> Any:
    """Snakemake's command line gives the text "null" where a file would give null."""
    if isinstance(value, Mapping):
        return {key: _with_nulls(inner) for key, inner in value.items()}
    return None if value == "null" else value


def defaults(schema: Path = SCHEMA) -> dict[str, Any]:
    """The config that an empty file means."""
    return load({}, schema)


def check_ids(config: Mapping[str, Any], rows: Rows) -> None:
    """Refuse data sets, models and methods that no row describes, or that nothing reads or makes.

    Raises:
        InputError: with the nearest known id.
    """
    known = {
        "datasets": sorted(name for name, row in rows.datasets.items() if row.reader),
        "models": sorted(name for name, row in rows.models.items() if row.maker),
        "methods": list(rows.methods),
    }
    known["catalogue"] = list(CATALOGUE)
    for where, name, section in _chosen_ids(config):
        if name not in known[section]:
            guess = hint(name, known[section], after=" ")
            raise InputError(
                f"config: `{where}`: no row of `{section}` has this id; {guess}known: {', '.join(known[section])}; "
                "your own come from a Python file named under `extensions`"
            )
    base = config["training"]["base"]
    if any(config["models"].values()) and not config["datasets"].get(base):
        raise InputError(
            f"config: `training.base` is `{base}`, which `datasets` leaves out; classifiers are trained or measured on "
            "it first: take it in, or name another base"
        )


def _chosen_ids(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Where a config names a data set or model, its id, and the section that must have it."""
    for section in ("datasets", "models"):
        yield from ((f"{section}.{name}", name, section) for name in config[section] or ())
    yield from ((f"engine.cost.models.{name}", name, "models") for name in config["engine"]["cost"]["models"])
    yield from ((f"methods.{name}", name, "methods") for name in config["methods"])
    yield from ((f"engine.methods.{name}", name, "catalogue") for name in config["engine"]["methods"] or ())
    yield "training.base", config["training"]["base"], "datasets"


def hint(word: str, known: Iterable[str], before: str = "", after: str = "") -> str:
    """A question for the nearest known word, or nothing where none is near."""
    return "".join(f"{before}did you mean `{each}`?{after}" for each in nearest(word, known))


def dump(config: Mapping[str, Any]) -> str:
    """The config as YAML, in its own order."""
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=120)


def read_schema(schema: Path = SCHEMA, papers: Path = PAPERS) -> dict[str, Any]:
    """The schema, with a section of its own for each paper that has a ``config.schema.yaml``.

    Raises:
        InputError: two define one name under ``$defs``.
    """
    whole = _read_yaml(schema)
    for path in sorted(papers.glob("*/config.schema.yaml")):
        section = _read_yaml(path)
        own = section.pop("$defs", {})
        for name in own.keys() & whole["$defs"].keys():
            raise InputError(f"{path}: `$defs.{name}` is defined elsewhere already; rename it")
        whole["$defs"] |= own
        whole["properties"][path.parent.name] = section
    return whole


def _read_yaml(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@functools.cache
def _validator(schema: Path) -> Draft202012Validator:
    """Read once: variants of the ablation are validated one by one."""
    return Draft202012Validator(read_schema(schema))


def resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a ``$ref`` into ``$defs``; keys beside the reference win."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target = resolve(root["$defs"][reference.removeprefix("#/$defs/")], root)
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def _with_defaults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Add the defaults of absent keys, in the schema's order, through all levels; other keys follow."""
    schema = resolve(schema, root)
    if not isinstance(value, dict) or schema.get("partial"):
        return value
    return {**_known_keys(value, schema, root), **_other_keys(value, schema, root)}


def _known_keys(value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a schema names, where they are given, have a default or hold keys that have one."""
    complete = {}
    for key, inner in schema.get("properties", {}).items():
        inner = resolve(inner, root)
        if key in value:
            complete[key] = _with_defaults(value[key], inner, root)
        elif "default" in inner:
            complete[key] = _with_defaults(copy.deepcopy(inner["default"]), inner, root)
        elif "properties" in inner and (filled := _with_defaults({}, inner, root)):
            complete[key] = filled
    return complete


def _other_keys(value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a schema allows without naming them, such as ids."""
    rest = {key: inner for key, inner in value.items() if key not in schema.get("properties", {})}
    other = schema.get("additionalProperties", False)
    if not isinstance(other, Mapping):
        return rest
    return {key: _with_defaults(inner, other, root) for key, inner in rest.items()}


def _explain(error: ValidationError) -> str:
    """One sentence: where, what was found, what is allowed."""
    where = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        return _unknown_key(error, where)
    if error.validator == "propertyNames":
        where = _join(where, error.instance)
    if error.validator == "enum":
        return _not_among(error, where) + _meaning(error)
    if error.validator == "type":
        return _of_wrong_type(error, where) + _meaning(error)
    return f"config: `{where}`: {error.message}{_meaning(error)}"


def _unknown_key(error: ValidationError, where: str) -> str:
    known = list(error.schema.get("properties", {}))
    unknown = next(key for key in error.instance if key not in known)
    guess = hint(str(unknown), known, after=" ")
    return f"config: unknown key `{_join(where, unknown)}`; {guess}known here: {', '.join(known)}"


def _not_among(error: ValidationError, where: str) -> str:
    allowed = [str(choice) for choice in error.validator_value]
    guess = hint(str(error.instance), allowed, before="; ")
    return f"config: `{where}` is `{error.instance}`, but must be one of {', '.join(allowed)}{guess}"


def _of_wrong_type(error: ValidationError, where: str) -> str:
    wanted = error.validator_value if isinstance(error.validator_value, str) else " or ".join(error.validator_value)
    found = type(error.instance).__name__
    nested = found == "str" and "." in where and not isinstance(yaml.safe_load(error.instance), str)
    text = "; inside braces on the command line all values are text: put them into a file for --configfile"
    return f"config: `{where}` is `{error.instance}` ({found}), but must be of type {wanted}{text if nested else ''}"


def _check_finite(value: Any, where: str = "") -> None:
    """YAML's .nan and .inf are numbers that no setting means."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_finite(inner, _join(where, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _check_finite(inner, _join(where, place))
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"config: `{where}` is {value}; give a finite number")


def _meaning(error: ValidationError) -> str:
    """The first line of the key's description, in parentheses."""
    meaning = str(error.schema.get("description", "")).split("\n")[0].strip().rstrip(".")
    return f" ({meaning})" if meaning else ""


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _check_crops(models: Mapping[str, Mapping[str, Any] | None]) -> None:
    """The crop that a model takes lies inside its resized image."""
    for model, settings in models.items():
        if settings and settings["resize"] < settings["input_size"]:
            raise InputError(
                f"config: `models.{model}.resize` is {settings['resize']}, smaller than the crop of "
                f"{settings['input_size']} pixels taken from it (`input_size`); raise one or lower the other"
            )
