"""Read and write subnets by name, ``{key: {"chosen": [names]}}``, as MMRazor's ``mutable_cfg`` files hold them.

Differs: names are checked, all at once, before anything is done with them, where MMRazor 0.3 lets a bad name empty the
choice and fail at forward; a text is one name and never searched for parts; a file is old or new, never half. Keys and
names of MMRazor's ShuffleNetV2 are understood as those of ours: ``stage_0_block_0: shuffle_7x7`` is ``stage1.block0``
with ``7x7``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from mutators.choices.errors import ChoiceError
from mutators.choices.notation import read_choices, to_choice
from search_spaces.domains import Choice, InputDomain, LayerDomain
from search_spaces.files import read_file, write_atomically
from search_spaces.schema import When
from search_spaces.yaml_text import load_yaml

_SHUFFLENET = re.compile(r"stage_(\d+)_block_(\d+)|(?:.*\.)?layers\.(\d+)\.(\d+)")  # MMRazor 0.3's, and 1.0's
_WANTED = 'wanted {"chosen": [names]} or {"_value": name, "_idx": index}'


def read_subnet(
    domains: Mapping[str, LayerDomain | InputDomain], subnet: object, when: When | None = None
) -> dict[str, Choice]:
    """Return a subnet as new choices, ``{key: {"_value", "_idx"}}``, in the order of ``domains``.

    It holds by key ``{"chosen": names}``, a choice, or a bare name, index or list of them. Keys that begin with ``_``,
    and bare values under keys that are not in ``domains``, are ignored, as by ``apply_choices``. Keys that do not
    matter, by the conditions ``when``, may be missing. MMRazor's keys and names of its ShuffleNetV2 stand for ours.

    Raises:
        ChoiceError: keys are missing or unknown, or what is chosen is not on offer; all of it is named.
    """
    given = _respell_shufflenet(domains, subnet) if isinstance(subnet, Mapping) else subnet
    return read_choices(domains, given, _read_choice, _is_choice, "the subnet", when)


def load_mutable_cfg(path: str | PathLike[str]) -> dict[str, object]:
    """Return what a YAML or JSON file chooses, by key; :meth:`OneShotMutator.deploy_subnet` checks it against a model.

    It holds ``key: {chosen: [names]}``, ``key: name``, or either below ``modules:``, as in MMRazor 1.0.

    Raises:
        ChoiceError: it cannot be read, is no YAML, or an entry is no choice; all of them are named.
    """
    import yaml

    try:
        content = load_yaml(read_file(Path(path)).decode())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ChoiceError(f"cannot read the mutable_cfg {fspath(path)}: {reason}.") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:  # yaml
        raise ChoiceError(f"{fspath(path)} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict) or not content:
        raise ChoiceError(f"{fspath(path)} holds {content!r}, wanted keys, each with `chosen:` and a list of names.")
    problems, modules = [], content.get("modules")
    if isinstance(modules, dict) and content.keys() <= {"modules", "channels"} and not _is_entry("modules", modules):
        if content.get("channels"):
            problems.append("it chooses channels, which a mutable_cfg does not here: see mutators.elastic")
        content = modules
    content = {key: {"chosen": [value]} if isinstance(value, str) else value for key, value in content.items()}
    problems += [f"{key!r} is {value!r}, {_WANTED}" for key, value in content.items() if not _is_entry(key, value)]
    if problems:
        raise ChoiceError(f"{fspath(path)} is no mutable_cfg:", problems)
    return content


def save_mutable_cfg(path: str | PathLike[str], choices: Mapping[str, Any]) -> None:
    """Write choices as ``key: {chosen: [names]}``; keys that begin with ``_`` and bare values are left out.

    Args:
        path: of a file in a folder that exists.
        choices: by key a choice or ``{"chosen": names}``. Names that repeat within a choice are written as indices.

    Raises:
        ChoiceError: an entry is no choice; all of them are named, and nothing is written.
        OSError: it cannot be written; what stood there is as it was.
    """
    import yaml

    entries = {key: value for key, value in choices.items() if _is_choice(key, value)}
    problems = [f"{key!r} is {value!r}, {_WANTED}" for key, value in entries.items() if not _is_entry(key, value)]
    if problems:
        raise ChoiceError("these are no choices:", problems)
    content = {key: {"chosen": _chosen(value)} for key, value in entries.items()}
    write_atomically(Path(path), yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def _respell_shufflenet(
    domains: Mapping[str, LayerDomain | InputDomain], subnet: Mapping[str, object]
) -> dict[str, object]:
    """Return a subnet with our keys and names for MMRazor's of its ShuffleNetV2, where those are not the model's."""
    respelt = {}
    for key, choice in subnet.items():
        ours = key if key in domains else _respell_key(str(key))
        domain = domains.get(ours)
        if ours == key or not isinstance(domain, LayerDomain):
            respelt[key] = choice
            continue
        names = choice["chosen"] if isinstance(choice, Mapping) and choice.keys() == {"chosen"} else choice
        respelt[ours] = [_respell_name(domain, name) for name in (names if isinstance(names, list) else [names])]
    return respelt


def _respell_key(key: str) -> str:
    match = _SHUFFLENET.fullmatch(key)
    return f"stage{int(match[1] or match[3]) + 1}.block{int(match[2] or match[4])}" if match else key


def _respell_name(domain: LayerDomain, name: Any) -> Any:
    """Return the candidate with which a name ends, as ``7x7`` for ``shuffle_7x7``; without one the name itself."""
    if not isinstance(name, str) or name in domain.names:
        return name
    return next((ours for ours in domain.names if name.lower().endswith(f"_{ours.lower()}")), name)


def _read_choice(domain: LayerDomain | InputDomain, value: object) -> Choice:
    if isinstance(value, Mapping) and "chosen" in value:
        if value.keys() != {"chosen"}:
            raise ChoiceError(f"got {dict(value)!r}, {_WANTED}")
        value = value["chosen"]
        if isinstance(value, Mapping):
            raise ChoiceError(f"chosen is {dict(value)!r}, wanted a list of names")
    return to_choice(domain, dict(value) if isinstance(value, Mapping) else value)


def _is_choice(key: object, value: object) -> bool:
    """Tell whether an entry was meant for a model, and is not the tuner's own or a hyper-parameter."""
    return not str(key).startswith("_") and isinstance(value, Mapping)


def _is_entry(key: object, value: object) -> bool:
    if not isinstance(key, str) or not isinstance(value, Mapping):
        return isinstance(key, str) and key.startswith("_")
    return isinstance(value.get("chosen"), (str, list, tuple)) or not {"_value", "_idx"}.isdisjoint(value)


def _chosen(value: Mapping[str, object]) -> list[object]:
    names = value["chosen"] if "chosen" in value else value.get("_value", value.get("_idx"))
    chosen = list(names) if isinstance(names, (list, tuple)) else [names]
    if "_idx" in value and ("" in chosen or len(set(chosen)) < len(chosen)):
        index = value["_idx"]
        return list(index) if isinstance(index, (list, tuple)) else [index]
    return chosen
