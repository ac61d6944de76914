"""The cluster that the service runs on: joined or started, with all that Ray says in the log; and checked."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import ray

from withhold.cluster import joined
from withhold.errors import InvalidInput
from withhold.online.service.logs import Log, Printed, ToLog
from withhold.online.service.settings import ServiceSettings

HEAD = "node:__internal_head__"
"""Resource that Ray gives to the head of a cluster, and to no other node."""

LOGGERS = ("ray", "ray.serve")
"""Loggers with handlers of their own, which would write to stderr."""


@contextmanager
def logged_cluster(settings: ServiceSettings, log: Log) -> Iterator[None]:
    """Join a cluster, or start one on this machine; what Ray prints or logs in this process becomes lines of the log.

    Raises:
        InvalidInput: There is none at the address.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [ToLog(log, "cluster")]
        logger.propagate = False
        logger.setLevel(logging.ERROR)
    os.environ["RAY_COLOR_PREFIX"] = "0"  # no colours around what Ray prints
    cpus = max(settings.replicas, os.cpu_count() or 1)
    with (
        redirect_stdout(Printed(log, "cluster")),
        joined(settings.address, cpus, lambda text: log.event("starting", text=text)),
    ):
        yield


def check_head() -> None:
    """Refuse another machine than the head of the cluster: HTTP is there.

    Raises:
        InvalidInput: It is another one.
    """
    own = ray.get_runtime_context().get_node_id()
    if not any(node["NodeID"] == own and HEAD in node["Resources"] for node in ray.nodes()):
        msg = "the service listens on the head of the cluster, and this is another machine; start it on the head"
        raise InvalidInput(msg)
