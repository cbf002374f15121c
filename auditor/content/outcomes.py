"""What may become of a weight's blocks in the round trip, and where a judgement counts and notes it."""

import numpy as np

from auditor.content.fp8 import CLAMP, LARGEST

# Where the counts of a weight's blocks stand.
ZERO, EXACT, VALUE_EQUAL, CHANGED, UNDEFINED, DRIFTED, FOREIGN, UNSATURATED, OVERFLOWING, NARROW = range(10)
# Where the first block of a kind stands: its row, column, largest |code|; and its scale and error.
FIRST_NAN, FIRST_CHANGED, FIRST_FOREIGN, FIRST_OVERFLOWING, FIRST_OTHER = range(5)

# Where a survey of scales counts, and where it keeps the first of each of the odd kinds and of the two extremes.
NAN, INFINITE, ZERO_SCALE, NEGATIVE, SUBNORMAL, NO_POWER_OF_TWO, POWER_OF_TWO, CLAMPED, BF16 = range(9)
PUBLISHED, RECIPROCAL, COUNTS = 9, 10, 11
LARGEST_SCALE, SMALLEST_SCALE, FIRSTS = 6, 7, 8

# The scale of a block whose largest |weight| is at most 1e-4, by either formula.
CLAMPED_SCALE = np.float32(CLAMP / LARGEST)
CLAMPED_POWER = np.float32(2.0**-22)
