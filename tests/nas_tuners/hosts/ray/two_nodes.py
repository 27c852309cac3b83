"""Be a Ray cluster of two nodes on this machine, each with room for one trial, in a process of its own.

It prints its address, kills the second node when it reads a line, and ends with its input.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self


class TwoNodes:
    """A cluster of two nodes. Use it as a context."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self.address = self._output.readline().strip()

    def kill_second(self) -> None:
        """Kill the second node, and wait for its end."""
        self._input.write("kill\n")
        self._input.flush()
        assert self._output.readline() == "killed\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._input.close()
        self._process.wait()
        self._output.close()


def main() -> None:
    from ray._private import services
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2")
        head = cluster.head_node  # a driver uses a node of the address that is noted here, which is the second's now
        services.write_node_ip_address(head.get_session_dir_path(), head.node_ip_address)
        print(cluster.address, flush=True)
        for _ in sys.stdin:
            cluster.remove_node(second, allow_graceful=False)
            print("killed", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
