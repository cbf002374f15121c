"""The kernels of the CPU, and how they are compiled and kept."""
