"""What hf_quant_config.json has to be, and lists of modules that mean nothing in a layout."""

import json
import os

import pytest

from auditor import audit
from auditor.forge import forge
from tests.families.test_every_release import audited, small


@pytest.fixture
def undeclared(tmp_path):
    """A checkpoint whose config.json declares no quantisation."""
    forge(tmp_path / "c", sparse=True)
    path = tmp_path / "c" / "config.json"
    fields = json.loads(path.read_text())
    del fields["quantization_config"]
    path.write_text(json.dumps(fields))
    return tmp_path / "c"


DAMAGED = {
    b"": "hf_quant_config.json is an empty file",
    b'{"quantization": {"quant_algo": "NVF': "hf_quant_config.json ",
    b'{"quantization": {}, "quantization": {}}': "hf_quant_config.json key 'quantization' is there more than once",
    b"[]": "hf_quant_config.json is [], needs an object",
    b'{"quantization": "NVFP4"}': "hf_quant_config.json has 'NVFP4' as quantization, needs an object",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n": "hf_quant_config.json is a git-lfs pointer",
}


@pytest.mark.parametrize("data", DAMAGED)
@pytest.mark.parametrize("family", [None, "structure"])
def test_a_damaged_declaration_beside_config_json_is_the_one_finding(undeclared, data, family):
    (undeclared / "hf_quant_config.json").write_bytes(data)
    report = audit(undeclared, family=family)
    assert report.verdict == "failed"
    [root] = [each for each in report.findings if each.caused_by is None and each.severity == "error"]
    assert (root.rule, root.location.file) == ("CFG105", "hf_quant_config.json")
    assert root.message.startswith(DAMAGED[data])


def test_a_declaration_that_is_no_file_is_told_by_its_name(undeclared):
    os.mkfifo(undeclared / "hf_quant_config.json")
    report = audit(undeclared)
    [root] = [each for each in report.findings if each.rule == "CFG105"]
    assert root.message == "hf_quant_config.json is a fifo, not a regular file"


def test_structure_without_config_json_reads_a_declaration_that_is_damaged(undeclared):
    (undeclared / "config.json").unlink()
    (undeclared / "hf_quant_config.json").write_bytes(b"{")
    report = audit(undeclared, family="structure")
    assert {each.location.file for each in report.findings if each.rule == "CFG105"} == {"hf_quant_config.json"}


def test_a_sidecar_is_not_needed_where_config_json_declares(tmp_path):
    forge(tmp_path / "c", sparse=True)
    (tmp_path / "c" / "hf_quant_config.json").write_bytes(b"{")
    assert audit(tmp_path / "c").verdict == "passed"


@pytest.mark.parametrize(
    ("like", "module", "entry", "how"),
    [
        ("v4-flash", "layers.7.attn.wq_a", "model.layers.7.attn", "without 'model.'"),
        (
            "glm-5.3-flash-fp8", "model.language_model.layers.7.mlp.shared_experts.up_proj",
            "language.layers.7.mlp.shared_experts", "with 'model.language_model.' in the place of 'language.'",
        ),
        ("qwen3-30b-fp8", "model.layers.7.self_attn.q_proj", "text.layers.7", "with 'model.' in the place of 'text.'"),
    ],
)  # fmt: skip
def test_exempt_names_of_another_prefix_are_told_in_every_layout(like, module, entry, how, tmp_path):
    plan = small(like).copy()
    lists = plan.config["quantization_config"]
    lists["modules_to_not_convert"] = [*(lists.get("modules_to_not_convert") or ()), entry]
    plan.alter(f"{module}.weight".__eq__, dtype="BF16")
    plan.drop(lambda name: name.startswith(f"{module}.") and not name.endswith(".weight"))
    report = audited(plan, tmp_path / "c")
    [root] = [each for each in report.findings if each.caused_by is None and each.severity == "error"]
    assert root.rule == "QNT114"
    assert root.message == f"'{entry}' matches no module; {how} 1 weight match, all BF16"
