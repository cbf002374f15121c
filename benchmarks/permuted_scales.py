"""Whether a permuted grid of block scales can be told from a sound one without a baseline: an experiment.

Dequantised, a block has rms s·q: its scale times the rms of its codes. Where the grid is permuted, s and q no longer
belong together. Both statistics below are compared with their distribution under random permutations of the grid;
z is how many standard deviations the grid as found lies below their mean. A sound grid should lie far below, a
permuted one about the mean.

    python benchmarks/permuted_scales.py [--tensors N] [--seed N] [--record]

Letters in shapes: R, C a weight's rows and columns, r, c its block rows and columns.
"""

import argparse
import platform
from collections.abc import Callable, Iterator
from math import erfc, sqrt
from pathlib import Path

import numpy as np

BLOCK = 128
RESULTS = Path(__file__).parent / "results" / "permuted-scales.md"
RELEASE = 45_808
SHAPES = {"5 × 56": (576, 7168), "16 × 16": (2048, 2048)}
PERMUTATIONS = 100
Grid = np.ndarray
Random = np.random.Generator


def smooth(random: Random, length: int, deviation: float, correlated: int) -> np.ndarray:
    """Log-normal factors along an axis, alike over stretches of `correlated` rows or columns."""
    steps = random.standard_normal(length // correlated + 2)
    factors = np.interp(np.arange(length) / correlated, np.arange(len(steps)), steps)
    return np.exp(deviation * factors).astype(np.float32)


def gauss(random: Random, shape: tuple[int, int]) -> np.ndarray:
    return random.standard_normal(shape, dtype=np.float32)


def iid(random: Random, shape: tuple[int, int]) -> np.ndarray:
    return gauss(random, shape)


def heavy_tailed(random: Random, shape: tuple[int, int]) -> np.ndarray:
    """Student's t with about 5 degrees of freedom."""
    return gauss(random, shape) / np.sqrt(random.standard_gamma(2.5, shape, dtype=np.float32) / np.float32(2.5))


def single_outliers(random: Random, shape: tuple[int, int]) -> np.ndarray:
    weight = gauss(random, shape)
    many = weight.size // 100_000
    places = random.integers(0, weight.size, many)
    weight.reshape(-1)[places] *= random.uniform(5, 30, many).astype(np.float32)
    return weight


def outlier_channels(random: Random, shape: tuple[int, int]) -> np.ndarray:
    """One input channel in a hundred is 3 to 20 times larger."""
    weight = gauss(random, shape)
    channels = random.integers(0, shape[1], shape[1] // 100)
    weight[:, channels] *= random.uniform(3, 20, len(channels)).astype(np.float32)
    return weight


def row_and_column_factors(random: Random, shape: tuple[int, int]) -> np.ndarray:
    """Each row and column has a magnitude of its own, none like its neighbour's."""
    rows, columns = (np.exp(0.3 * random.standard_normal(n)).astype(np.float32) for n in shape)
    return gauss(random, shape) * rows[:, None] * columns


def smooth_factors(random: Random, shape: tuple[int, int]) -> np.ndarray:
    """Magnitudes that change slowly, as heads and groups of channels do."""
    return gauss(random, shape) * smooth(random, shape[0], 0.5, 512)[:, None] * smooth(random, shape[1], 0.5, 512)


def steep_factors(random: Random, shape: tuple[int, int]) -> np.ndarray:
    """The same, and blocks differ by a factor of 10: the chance in a block's largest weight drowns in it."""
    return gauss(random, shape) * smooth(random, shape[0], 1.2, 512)[:, None] * smooth(random, shape[1], 1.2, 512)


def uneven_blocks(random: Random, shape: tuple[int, int]) -> np.ndarray:
    """Blocks of unrelated magnitudes."""
    rows, columns = (-(-n // BLOCK) for n in shape)
    factors = np.exp(random.standard_normal((rows, columns))).astype(np.float32)
    return gauss(random, shape) * np.kron(factors, np.ones((BLOCK, BLOCK), np.float32))[: shape[0], : shape[1]]


def low_rank(random: Random, shape: tuple[int, int]) -> np.ndarray:
    rank = 16
    strong = (
        gauss(random, (shape[0], rank)) * smooth(random, shape[0], 0.5, 256)[:, None] @ gauss(random, (rank, shape[1]))
    )
    return strong / sqrt(rank) + np.float32(0.5) * gauss(random, shape)


def clipped(random: Random, shape: tuple[int, int]) -> np.ndarray:
    """Clipped during training: all blocks that reach the bound have one scale."""
    return np.clip(smooth_factors(random, shape), -3, 3)


def sparse_rows(random: Random, shape: tuple[int, int]) -> np.ndarray:
    """A varying share of each block's rows is nearly zero: the rms falls, the largest weight hardly does."""
    kept = random.random(shape[0]) < np.repeat(random.uniform(0.02, 1, -(-shape[0] // BLOCK)), BLOCK)[: shape[0]]
    return gauss(random, shape) * np.where(kept, 1, 0.01).astype(np.float32)[:, None]


DATA: dict[str, Callable[[Random, tuple[int, int]], np.ndarray]] = {
    each.__name__.replace("_", " "): each
    for each in (
        iid, heavy_tailed, single_outliers, outlier_channels, row_and_column_factors, smooth_factors, steep_factors,
        uneven_blocks, low_rank, clipped, sparse_rows,
    )
}  # fmt: skip


def measured(weight_RC: np.ndarray) -> tuple[Grid, Grid]:  # noqa: N803  # shape suffix
    """Logarithms of each block's scale and of the rms of its codes, rounding of codes left out (below 0.1 %)."""
    rows, columns = weight_RC.shape
    r, c = -(-rows // BLOCK), -(-columns // BLOCK)
    padded = np.zeros((r * BLOCK, c * BLOCK), np.float32)
    padded[:rows, :columns] = weight_RC * np.float32(0.02)
    blocks = padded.reshape(r, BLOCK, c, BLOCK)
    amax = np.maximum(np.abs(blocks).max(axis=(1, 3)), 1e-4)
    counts = np.minimum(BLOCK, rows - np.arange(r) * BLOCK)[:, None] * np.minimum(BLOCK, columns - np.arange(c) * BLOCK)
    rms = np.sqrt(np.square(blocks, dtype=np.float32).sum(axis=(1, 3), dtype=np.float64) / counts)
    scale = amax / 448
    return np.log(scale), np.log(rms / scale)


def plain(log_s: Grid, log_q: Grid) -> float:
    """The variance of log(s·q)."""
    return float(np.var(log_s + log_q))


def without_margins(log_s: Grid, log_q: Grid) -> float:
    """The same after means of block rows and columns are taken away."""
    product = log_s + log_q
    centred = product - product.mean(0) - product.mean(1)[:, None] + product.mean()
    return float(np.var(centred))


STATISTICS = {"variance": plain, "variance within rows and columns": without_margins}


def damages(grid: Grid, random: Random) -> Iterator[tuple[str, Grid]]:
    """Ways a grid has been permuted, from all of it to a little."""
    rows, columns = grid.shape
    yield "shuffled", random.permutation(grid.reshape(-1)).reshape(grid.shape)
    yield "rolled by one column", np.roll(grid, 1, axis=1)
    yield "block rows reversed", grid[::-1]
    swapped = grid.copy()
    first, second = random.choice(rows, 2, replace=False)
    swapped[[first, second]] = grid[[second, first]]
    yield "two block rows swapped", swapped
    if rows == columns:
        yield "transposed", grid.T


def z_scores(log_s: Grid, log_q: Grid, random: Random) -> dict[str, float]:
    """How far each statistic lies from its mean under random permutations, in standard deviations."""
    shuffled = [random.permutation(log_s.reshape(-1)).reshape(log_s.shape) for _ in range(PERMUTATIONS)]
    scores = {}
    for name, statistic in STATISTICS.items():
        under = [statistic(each, log_q) for each in shuffled]
        deviation = float(np.std(under))
        scores[name] = (statistic(log_s, log_q) - float(np.mean(under))) / deviation if deviation > 1e-12 else 0.0
    return scores


def auc(sound: np.ndarray, damaged: np.ndarray) -> float:
    """The chance that a damaged grid scores above a sound one."""
    above = (damaged[:, None] > sound).mean() + (damaged[:, None] == sound).mean() / 2
    return float(above)


def false_findings(sound: np.ndarray, damaged: np.ndarray) -> float:
    """Sound tensors among the release's that a threshold finding 95 % of the damaged ones would report.

    Counted where there are any; by a normal tail, as a lower bound of what heavier tails do, where there are none.
    """
    threshold = float(np.quantile(damaged, 0.05))
    seen = float((sound >= threshold).mean())
    if seen:
        return seen * RELEASE
    tail = (threshold - float(sound.mean())) / max(float(sound.std()), 1e-9)
    return erfc(tail / sqrt(2)) / 2 * RELEASE


Scores = dict[tuple[str, str, str], dict[str, list[float]]]
POOLED = "all of them"


def experiment(tensors: int, seed: int) -> Scores:
    """The z scores of every statistic by data, grid and damage ("sound" for none)."""
    scores: Scores = {}
    for data, make in DATA.items():
        for size, shape in SHAPES.items():
            for number in range(tensors):
                random = np.random.default_rng([seed, number, *data.encode(), *shape])
                log_s, log_q = measured(make(random, shape))
                for kind, grid in [("sound", log_s), *damages(log_s, random)]:
                    for statistic, z in z_scores(grid, log_q, random).items():
                        scores.setdefault((data, size, kind), {}).setdefault(statistic, []).append(z)
                        # One rule has one threshold: it meets every kind of data.
                        scores.setdefault((POOLED, "both", kind), {}).setdefault(statistic, []).append(z)
            print(f"{data}, {size}", flush=True)
    return scores


def rows(scores: Scores) -> Iterator[list[str]]:
    """The table, all data together first."""
    for (data, size, damage), found in sorted(scores.items(), key=lambda each: each[0][0] != POOLED):
        if damage == "sound":
            continue
        row = [data, size, damage]
        for name in STATISTICS:
            sound, damaged = np.array(scores[data, size, "sound"][name]), np.array(found[name])
            count = false_findings(sound, damaged)
            row += [
                f"{np.median(sound):.1f} ({sound.max():.1f})",
                f"{np.median(damaged):.1f}",
                f"{auc(sound, damaged):.3f}",
                f"{count:,.0f}" if count >= 0.5 else "0",
            ]
        yield row


TITLE = "# Can a permuted scale grid be told without a baseline?"


def written(scores: Scores, tensors: int, seed: int) -> str:
    """The page."""
    columns = ["data", "grid", "damage"]
    for name in STATISTICS:
        columns += [f"{name}: z sound, median (largest)", "z damaged, median", "AUC", f"false of {RELEASE:,}"]
    how = f"`python benchmarks/permuted_scales.py --tensors {tensors} --seed {seed} --record`"
    parts = f"{tensors} tensors of each kind and grid, {PERMUTATIONS} permutations each"
    lines = [
        TITLE,
        "",
        f"{how}; {parts}; numpy {np.__version__}, CPython {platform.python_version()}.",
        "",
        "What is measured, and of which data, is said in the script. AUC: the chance that a damaged grid scores above",
        "a sound one; 1 separates, 0.5 tells nothing, less misleads. The last column of each statistic: how many sound",
        "tensors of a release a threshold would report that finds 95 % of the damaged ones, by a normal tail where",
        "none of those tried was above it.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows(scores)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run it and print or record the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensors", type=int, default=40, help="tensors of each kind and size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/permuted-scales.md")
    options = parser.parse_args()
    page = written(experiment(options.tensors, options.seed), options.tensors, options.seed)
    if options.record:
        RESULTS.write_text(page)
    else:
        print(page)


if __name__ == "__main__":
    main()
