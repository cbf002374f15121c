"""A Ray cluster on this machine, driven by words on standard input: PROCESSORS of the head, and how many OTHERS.

It is in a process of its own, as Ray is process-wide.

`address`, or the folder of its `session`; `kill` the newest node at once, or the `head`; `add` one; `blind` adds one
that does not see the bucket, `gpu` one that says that it has a GPU which is none, `cuda` one with this machine's first,
`with NAME=VALUE` one whose environment is another, and `remove` removes the newest.
"""

import sys
from itertools import count

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
MORE: dict[str, dict[str, object]] = {
    "add": {},
    "blind": {"env_vars": {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}},
    "gpu": {"num_gpus": 1, "env_vars": {"CUDA_VISIBLE_DEVICES": "99"}},
    "cuda": {"num_gpus": 1},
}


def main() -> None:
    """Until standard input closes."""
    numbers = count(2)  # 127.0.0.1 is rewritten
    sys.stdout, told = sys.stderr, sys.stdout
    cluster = Cluster(
        True, head_node_args={**NODE, "num_cpus": int(sys.argv[1]), "node_ip_address": f"127.0.0.{next(numbers)}"}
    )

    def add(**more: object) -> object:
        return cluster.add_node(**NODE, node_ip_address=f"127.0.0.{next(numbers)}", **more)

    nodes = [add() for _ in range(int(sys.argv[2]))]
    for line in sys.stdin:
        word = line.strip()
        if word == "kill":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        elif word == "head":
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        elif word in MORE:
            nodes.append(add(**MORE[word]))
        elif word.startswith("with "):
            name, _, value = word.removeprefix("with ").partition("=")
            nodes.append(add(env_vars={name: value}))
        elif word == "remove":
            cluster.remove_node(nodes.pop())
        found = cluster.head_node.get_session_dir_path() if word == "session" else cluster.address
        print(found, file=told, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
