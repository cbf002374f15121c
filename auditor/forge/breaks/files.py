"""Breaks of the set of files: what a loader would take beside or instead of the shards, and what a copy left undone."""

import json
from collections.abc import Callable
from pathlib import Path

from auditor.families.scaling import MTP_MARKS
from auditor.forge.breaks import Break, breaks_as
from auditor.forge.plan import Plan, Shard, Tensor, number
from auditor.forge.write import CONFIG, INDEX
from auditor_schemas.rule import Severity

_WARNING = Severity.WARNING
_GONE = "../../blobs/0000000000000000000000000000000000000000000000000000000000000000"


def _add(name: str, title: str, rule: str, severity: Severity, *files: tuple[str, bytes]) -> Break:
    def write(directory: Path) -> None:
        for file, data in files:
            (directory / file).write_bytes(data)

    def apply(plan: Plan) -> None:
        plan.afterwards.append(write)

    return breaks_as(name, title, rule, severity=severity)(apply)


def _copy(file: str, plan: Plan) -> Shard:
    """Some of the checkpoint's tensors in a file of another name."""
    return Shard(file, list(plan.middle.tensors))


@breaks_as("single-file-beside-index", "a model.safetensors of an older save lies beside the index", "FIL101")
def single_file(plan: Plan) -> None:
    """transformers takes it and never looks at the index."""
    plan.strays.append(_copy("model.safetensors", plan))


@breaks_as("redirected-weights", "config.json's transformers_weights names another file", "FIL102")
def redirected_weights(plan: Plan) -> None:
    """The one key of config.json that says where the weights are."""
    plan.config["transformers_weights"] = "other.safetensors"


@breaks_as("consolidated-weights", "a consolidated.safetensors lies beside the shards", "FIL103")
def consolidated_weights(plan: Plan) -> None:
    """vLLM takes what is so called for weights in Mistral's format, and these alone."""
    plan.strays.append(_copy("consolidated.safetensors", plan))


pickled_weights = _add(
    "pickled-weights",
    "an older save in PyTorch's format lies beside the shards",
    "FIL104",
    _WARNING,
    ("pytorch_model-00001-of-00002.bin", b"PK\x03\x04"),
    ("pytorch_model-00002-of-00002.bin", b"PK\x03\x04"),
    ("pytorch_model.bin.index.json", b'{"metadata":{},"weight_map":{}}'),
)


@breaks_as("adapter-beside-weights", "a LoRA adapter lies beside the shards", "FIL105", severity=_WARNING)
def adapter(plan: Plan) -> None:
    """Saved into the folder of the model it belongs to."""
    name = "base_model.model.lm_head.lora_A.weight"
    plan.strays.append(Shard("adapter_model.safetensors", [Tensor(name, "F32", (8, 64), "weights", name, (8, 64))]))
    config = json.dumps({"base_model_name_or_path": "org/name", "peft_type": "LORA"}).encode()
    plan.afterwards.append(lambda directory: _write(directory / "adapter_config.json", config))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@breaks_as("shard-without-suffix", "the shards' names, and the index's, end without .safetensors", "FIL106")
def without_suffix(plan: Plan) -> None:
    """Loaders go by the suffix."""
    for shard in plan.shards:
        shard.file = shard.file.removesuffix(".safetensors")


@breaks_as("second-series", "the same weights lie there twice, split in two ways, and the index names one", "FIL107")
def second_series(plan: Plan) -> None:
    """Saved again with another max_shard_size into the same folder."""
    again = [Shard("", shard.tensors) for shard in plan.shards] + [Shard("", [])]
    number(again)
    plan.strays += again


apple_double = _add(
    "apple-double",
    "macOS left its metadata beside a shard",
    "FIL108",
    _WARNING,
    ("._model-00001-of-000004.safetensors", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ".ljust(4096, b"\x00")),
)


def _broken_links(name: str, title: str, which: Callable[[Plan, Path], list[Path]]) -> Break:
    def apply(plan: Plan) -> None:
        def link(directory: Path) -> None:
            for path in which(plan, directory):
                path.unlink()
                path.symlink_to(_GONE)

        plan.afterwards.append(link)

    return breaks_as(name, title, "FIL109")(apply)


dangling_symlink = _broken_links(
    "dangling-symlink", "a shard is a symlink to nothing", lambda plan, directory: [directory / plan.middle.file]
)
lost_blobs = _broken_links(
    "lost-blobs", "every file is a symlink to nothing", lambda _, directory: sorted(directory.iterdir())
)


def _move(name: str, title: str, file: Callable[[Plan], str], spelled: Callable[[str], str]) -> Break:
    def apply(plan: Plan) -> None:
        def move(directory: Path) -> None:
            path = directory / file(plan)
            path.rename(directory / spelled(path.name))

        plan.afterwards.append(move)

    return breaks_as(name, title, "FIL110")(apply)


other_case = _move(
    "shard-in-other-case", "a shard's name differs in case from the index's", lambda plan: plan.middle.file, str.title
)
index_in_other_case = _move(
    "index-in-other-case", "the index's own name differs in case", lambda _: INDEX, str.capitalize
)
config_in_other_case = _move(
    "config-in-other-case", "config.json's name differs in case", lambda _: CONFIG, str.capitalize
)
lost_suffix = _move(
    "lost-suffix", "the index names a shard with a suffix that its file lacks", lambda plan: plan.middle.file,
    lambda file: file.removesuffix(".safetensors"),
)  # fmt: skip


@breaks_as("unfinished-download", "a downloader's mark lies beside a shard", "FIL111", severity=_WARNING)
def unfinished_download(plan: Plan) -> None:
    """aria2 gives a file its full size first."""
    file = plan.middle.file
    plan.afterwards.append(lambda directory: _write(directory / f"{file}.aria2", b"\x00\x01"))


pointer = _add(
    "pointer-for-tokenizer",
    "tokenizer.json is a git-lfs pointer",
    "FIL112",
    _WARNING,
    (
        "tokenizer.json",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 7847602\n",
    ),
)


@breaks_as("missing-code", "auto_map names a module that is not there", "FIL113", severity=_WARNING)
def missing_code(plan: Plan) -> None:
    """Copied without its .py files."""
    plan.config["auto_map"] = {"AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"}


@breaks_as("download-without-index", "all but the first two shards are missing, and the index is too", "IDX114")
def without_index(plan: Plan) -> None:
    """A download that was ended early, index last."""
    gone = [shard.file for shard in plan.shards[2:]]

    def remove(directory: Path) -> None:
        for file in (*gone, INDEX):
            (directory / file).unlink()

    plan.afterwards.append(remove)


@breaks_as("exported-mtp-module", "an MTP module exported alone, with the whole model's index copied along", "IDX115")
def exported_module(plan: Plan) -> None:
    """As scripts that split off the draft model write it."""
    layer = plan.mtp_layers[0]
    own = plan.naming.prefix(layer)
    assert any(tensor.name.startswith(own) and tensor.name.endswith(MTP_MARKS) for tensor in plan.tensors())
    kept = [
        Tensor(
            each.name.replace(own, plan.naming.prefix(0), 1),
            each.dtype,
            each.shape,
            each.values,
            each.stream,
            each.origin,
        )
        for each in plan.tensors()
        if each.name.startswith(own)
    ]
    gone = [shard.file for shard in plan.shards]
    plan.strays.append(Shard("nextn_layer_parameters.safetensors", kept))
    plan.config |= {"architectures": ["DeepseekV3ForCausalLMNextN"], "num_hidden_layers": 1}

    def remove(directory: Path) -> None:
        for file in gone:
            (directory / file).unlink()

    plan.afterwards.append(remove)
