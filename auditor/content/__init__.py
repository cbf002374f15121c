"""The only readers of tensor bytes: what to read, the kernels that compute on it, and the probes that come of it."""
