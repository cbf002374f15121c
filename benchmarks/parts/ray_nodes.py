"""A Ray cluster of this machine, driven on standard input: a head without a processor, and nodes with one each: PACE….

Each node's units read no faster than its PACE in bytes a second (0: as fast as they can). `kill` ends the newest at
once. Each word is answered by the address and the seconds it took, as JSON.
"""

import json
import sys
import time
from itertools import count

from ray.cluster_utils import Cluster

NODE = {"object_store_memory": 80 << 20, "include_dashboard": False}


def main() -> None:
    """Until standard input closes."""
    numbers = count(2)  # 127.0.0.1 is rewritten
    sys.stdout, told = sys.stderr, sys.stdout

    def address() -> str:
        return f"127.0.0.{next(numbers)}"

    def add(pace: str) -> object:
        return cluster.add_node(**NODE, num_cpus=1, node_ip_address=address(), env_vars={"PACE": pace})

    begun = time.perf_counter()
    cluster = Cluster(True, head_node_args={**NODE, "num_cpus": 0, "node_ip_address": address()})
    nodes = [add(pace) for pace in sys.argv[1:]]
    while True:
        print(json.dumps([cluster.address, time.perf_counter() - begun]), file=told, flush=True)
        word = sys.stdin.readline().strip()
        begun = time.perf_counter()
        if word == "kill":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        else:
            break
    cluster.shutdown()


if __name__ == "__main__":
    main()
