"""The hub client: huggingface_hub's own reading of a local checkpoint's metadata, index and every header."""

import sys

from huggingface_hub import get_local_safetensors_metadata

metadata = get_local_safetensors_metadata(sys.argv[1])
print(sum(len(file.tensors) for file in metadata.files_metadata.values()))
