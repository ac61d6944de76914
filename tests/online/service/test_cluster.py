"""What is set and checked before a cluster is used, without one."""

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from tests.tools import package

from withhold.errors import InvalidInput
from withhold.online.service.logs import Log
from withhold.online.service.settings import ServiceSettings

package("ray")
cluster = package("withhold.online.service.cluster")
constants = package("ray._private.ray_constants")
worker = package("ray._private.worker")

READ_AT_IMPORT = "RAY_ENABLE_UV_RUN_RUNTIME_ENV"
IMPORTED = f"""
import os
import withhold.online.service.ray_server
print(os.environ.get({READ_AT_IMPORT!r}))
"""
SERVED = f"""
import sys, types
server = types.ModuleType("withhold.online.service.ray_server")
def serve_replicas(*_):
    from ray._private import ray_constants
    print(ray_constants.{READ_AT_IMPORT})
server.serve_replicas = serve_replicas
sys.modules[server.__name__] = server
from withhold.cli.main import app
app(["serve", "protector", "--engine", "ray"])
"""


@pytest.mark.parametrize(("program", "printed"), [(IMPORTED, "None"), (SERVED, "False")])
def test_importing_sets_nothing_and_the_command_sets_what_ray_reads_when_it_is_imported(
    program: str, printed: str
) -> None:
    clean = {name: value for name, value in os.environ.items() if name != READ_AT_IMPORT}
    done = subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=False)
    assert done.stdout == f"{printed}\n", done.stderr


def test_what_ray_says_becomes_lines_of_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in cluster.LOGGERS:  # so that all is put back as it was
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "handlers", logger.handlers)
        monkeypatch.setattr(logger, "propagate", logger.propagate)
        monkeypatch.setattr(logger, "level", logger.level)
    monkeypatch.setattr(constants, "ENABLE_RAY_CLUSTER", True)
    for name in (constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "RAY_COLOR_PREFIX"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("RAY_COLOR_PREFIX")

    def init(address: str, **_: object) -> None:
        assert address == "local", "whatever RAY_ADDRESS says"
        for name in cluster.LOGGERS:
            logging.getLogger(name).error("from %s", name)
            logging.getLogger(name).info("nobody needs this")

    monkeypatch.setattr(cluster.ray, "init", init)
    monkeypatch.setattr(cluster.ray, "shutdown", lambda: None)
    text = io.StringIO()
    with cluster.logged_cluster(ServiceSettings(engine="ray"), Log(text)):
        error = {"lines": ["A worker was killed."], "pid": "raylet", "is_err": False}
        worker.print_to_stdstream(error, ignore_prefix=False)
    started, *lines = [json.loads(line) for line in text.getvalue().splitlines()]
    assert started["event"] == "starting"
    assert [(line["event"], line["message"]) for line in lines] == [
        ("cluster", "from ray"),
        ("cluster", "from ray.serve"),
        ("cluster", "(raylet) A worker was killed."),
    ]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("device", "gpus"), [("cpu", 0.0), ("mps", 0.0), ("cuda", 1.0), ("cuda:1", 1.0)])
def test_a_replica_has_a_gpu_where_it_uses_one(device: str, gpus: float) -> None:
    assert package("withhold.online.service.ray_server").gpus_of(device) == gpus


@pytest.mark.parametrize(("own", "fits"), [("head", True), ("worker", False)])
def test_the_service_starts_on_the_head_only(own: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"NodeID": "worker", "Resources": {"CPU": 1}}, {"NodeID": "head", "Resources": {cluster.HEAD: 1}}]
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    context = SimpleNamespace(get_node_id=lambda: own)
    monkeypatch.setattr(cluster.ray, "get_runtime_context", lambda: context)
    with contextlib.nullcontext() if fits else pytest.raises(InvalidInput, match="start it on the head"):
        cluster.check_head()
