"""Recognize configurations of NNI 1.x, and say how NNI 3 wants them written."""

from __future__ import annotations

from collections.abc import Mapping

_GONE = ("authorName", "description", "multiPhase", "multiThread", "versionCheck", "logCollection")
_RENAMED = {
    "maxExecDuration": "maxExperimentDuration",
    "maxTrialNum": "maxTrialNumber",
    "searchSpacePath": "searchSpaceFile",
    "logDir": "experimentWorkingDirectory",
}
_OF_TRIAL = {"command": "trialCommand", "codeDir": "trialCodeDirectory", "gpuNum": "trialGpuNumber"}
_OF_MACHINE = {"ip": "host", "username": "user", "passwd": "password", "sshKeyPath": "sshKeyFile"}
_ALGORITHMS = ("tuner", "assessor", "advisor")


def find_old_names(config: Mapping[str, object]) -> list[str]:
    """Return for each name of NNI 1.x in a configuration what to write instead.

    >>> find_old_names({"authorName": "me", "maxTrialNum": 9, "trial": {"command": "python3 trial.py"}})
    ['authorName: leave it out', 'maxTrialNum: write maxTrialNumber: 9', \
'trial.command: write trialCommand: python3 trial.py']
    """
    hints = [f"{name}: leave it out" for name in _GONE if name in config]
    hints += [f"{old}: write {new}: {config[old]}" for old, new in _RENAMED.items() if old in config]
    trial = config.get("trial")
    if isinstance(trial, Mapping):
        hints += [f"trial.{old}: write {new}: {trial[old]}" for old, new in _OF_TRIAL.items() if old in trial]
    for role in _ALGORITHMS:
        hints += _find_in_algorithm(role, config.get(role))
    return hints + _find_in_service(config)


def _find_in_algorithm(role: str, entry: object) -> list[str]:
    if not isinstance(entry, Mapping):
        return []
    builtin = f"builtin{role.title()}Name"
    hints = [f"{role}.{builtin}: write {role}: {{name: {entry[builtin]}}}"] if builtin in entry else []
    if "classFileName" in entry:
        name = f"{str(entry['classFileName']).removesuffix('.py')}.{entry.get('className', 'Class')}"
        hints.append(f"{role}.classFileName: write className: {name}")
    if "codeDir" in entry:
        hints.append(f"{role}.codeDir: write codeDirectory: {entry['codeDir']}")
    if "gpuIndices" in entry:
        hints.append(f"{role}.gpuIndices: write tunerGpuIndices: {entry['gpuIndices']}, outside of {role}")
    return hints + [f"{role}.{old}: leave it out" for old in ("includeIntermediateResults",) if old in entry]


def _find_in_service(config: Mapping[str, object]) -> list[str]:
    hints = []
    if "trainingServicePlatform" in config:
        platform = config["trainingServicePlatform"]
        hints.append(f"trainingServicePlatform: write trainingService: {{platform: {platform}}}")
    if "localConfig" in config:
        hints.append("localConfig: write its entries under trainingService")
    machines = config.get("machineList")
    if isinstance(machines, list):
        names = {name for machine in machines if isinstance(machine, Mapping) for name in machine}
        renamed = ", ".join(f"{new} for {old}" for old, new in _OF_MACHINE.items() if old in names)
        hints.append(f"machineList: write it under trainingService{renamed and f', with {renamed}'}")
    return hints
