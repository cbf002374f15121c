"""The safetensors format, index files and strict JSON: bytes in, entries or faults out, no I/O."""
