"""What each part of a full audit would read: FOLDER PARTS. Prints the bytes of each, and the largest shard, as JSON."""

import json
import sys
from contextlib import closing

from auditor.content.formats import Blocks, Formats
from auditor.content.parts import share
from auditor.content.plan import whole_shards
from auditor.inventory.walk import walk
from auditor.sources import open_source
from auditor_schemas.policy import Limits


def main() -> None:
    """The command line."""
    count = int(sys.argv[2])
    with closing(open_source(sys.argv[1])) as source:
        plans = whole_shards(walk(source, Limits()), Formats(Blocks((128, 128), False)))
    shares = [sum(plan.size for plan in share(plans, number, count)) for number in range(1, count + 1)]
    print(json.dumps({"bytes": shares, "largest": max(plan.size for plan in plans)}))


if __name__ == "__main__":
    main()
