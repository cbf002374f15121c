"""The extremes of weight blocks on CUDA: a Triton kernel, and copies that overlap with reading.

The modules in here need torch and triton: only `auditor.content.gpu` imports them, and who learned from it that there
is a device.
"""

LARGEST_BLOCK = 256  # rows and columns of a weight block that the kernel takes
