"""The files for clusters that users start from: valid, and of the versions that the project has."""

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from withhold.cli.main import app
from withhold.version import __version__

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
JOB = {"entrypoint", "entrypointNumGpus", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit"}
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
GROUP = {"rayStartParams", "template"}
WORKERS = GROUP | {"groupName", "replicas", "minReplicas", "maxReplicas"}
"""Fields of KubeRay's types RayJobSpec, RayClusterSpec, HeadGroupSpec and WorkerGroupSpec."""


def document(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / name).read_text()))


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==([0-9.]+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found.group(1)


def options_of(command: str) -> list[str]:
    """The options of a `withhold protect` command, each of which the command must know."""
    words = shlex.split(command)
    words = words[words.index("protect") + 1 :]
    given = [word for word in words if word.startswith("--")]
    said = CliRunner().invoke(app, ["protect", "--help"], env={"COLUMNS": "400"}).output
    assert [option for option in given if option not in said] == []
    return given


def test_the_cluster_file_is_valid_for_ray() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    filled = util.fillout_defaults(copy.deepcopy(document("ray-cluster.yaml")))
    util.validate_config(filled)
    with pytest.raises(Exception, match=r"(was|were) unexpected"):
        util.validate_config({**filled, "no_such_field": 1})


def test_every_machine_gets_the_versions_of_this_project_and_asks_for_a_token() -> None:
    cluster = document("ray-cluster.yaml")
    installed = cluster["setup_commands"][-1]
    assert f"withhold[cluster]=={__version__}" in installed
    assert f"torch=={pinned('torch')}" in installed
    assert f"ray=={pinned('ray')}" in installed
    for kind in ("head", "worker"):
        assert all("RAY_AUTH_MODE=token ray start" in line for line in cluster[f"{kind}_start_ray_commands"][1:])


def test_the_job_has_fields_that_kuberay_knows_and_a_command_that_we_know() -> None:
    job = document("kuberay-job.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec.keys() == JOB | {"rayClusterSpec"}
    cluster = spec["rayClusterSpec"]
    assert cluster.keys() == CLUSTER
    assert cluster["rayVersion"] == pinned("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"].keys() == GROUP
    (workers,) = cluster["workerGroupSpecs"]
    assert workers.keys() == WORKERS
    options_of(spec["entrypoint"])
    words = shlex.split(spec["entrypoint"])
    assert int(words[words.index("--workers") + 1]) == workers["replicas"]
    gpus = [
        group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
        for group in (cluster["headGroupSpec"], workers)
    ]
    assert gpus == ["1", "1"]


def test_the_commands_of_the_guide_are_commands() -> None:
    guide = (ROOT / "docs" / "cluster.md").read_text()
    commands = re.findall(r"withhold protect [^\n#`']+", guide)
    assert len(commands) >= 5
    for command in commands:
        options_of(command)
