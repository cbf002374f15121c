"""The hub client: huggingface_hub's reading of a remote repository's metadata, index and every header."""

import sys

from huggingface_hub import HfApi

metadata = HfApi(endpoint=f"http://127.0.0.1:{sys.argv[1]}", token=False).get_safetensors_metadata("org/model")
print(sum(len(file.tensors) for file in metadata.files_metadata.values()))
