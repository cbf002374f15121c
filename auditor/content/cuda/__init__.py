"""The extremes of weight blocks on CUDA: a Triton kernel, and copies that overlap with reading.

Only `auditor.content.gpu` and those who were told by it that there is a device import what is in here: it needs torch
and triton.
"""
