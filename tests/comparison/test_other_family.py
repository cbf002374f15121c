"""Where config.json names one family and the tensors are named as another names them, one finding says so."""

from copy import deepcopy

import pytest
from msgspec.structs import replace

from auditor import audit
from auditor.cli import main
from auditor.families import families
from auditor.families.fingerprint import telling
from auditor.forge import LIKES
from auditor.forge.plan import Plan
from auditor.forge.write import write
from tests.families.test_every_release import small

# One release of each kind of names, with all families that name tensors so.
NAMED = {
    "v3": {"deepseek-v3", "kimi-k2"},
    "v3.2": {"deepseek-v3.2", "glm-5"},
    "minimax-m2.7": {"minimax-m2"},
    "qwen3-30b-fp8": {"qwen3-moe"},
    "mimo-v2.5": {"mimo-v2.5"},
    "kimi-k2.5": {"kimi-k2.5"},
    "kimi-k3": {"kimi-k3"},
    "glm-5.3-flash-fp8": {"glm-5.3-flash"},
    "v4-flash": {"deepseek-v4"},
    "v4.1-flash": {"deepseek-v4.1"},
}
# V3.2 has all names of V3 and more, so that under V3's config these are too many and no other family's.
NEXT = dict(zip(NAMED, [*list(NAMED)[2:], *list(NAMED)[:2]], strict=True))
PAIRS = [
    pytest.param(one, other, marks=() if NEXT[one] == other else pytest.mark.slow)
    for one in NAMED
    for other in NAMED
    if one != other and {one, other} != {"v3", "v3.2"}
]


def roots(plan: Plan, folder, **options) -> list[tuple[str, str]]:
    folder.mkdir()
    write(plan, folder, strips=None)
    report = audit(folder, **options)
    assert report.verdict == "failed"
    return [(each.rule, each.message) for each in report.findings if each.caused_by is None and each.severity != "info"]


def with_config_of(like: str, other: str) -> Plan:
    plan = small(like).copy()
    plan.config, plan.sidecar = deepcopy(small(other).config), deepcopy(small(other).sidecar)
    return plan


@pytest.mark.parametrize(("like", "other"), PAIRS)
def test_a_release_with_the_config_of_another_family_is_one_finding_that_names_both(like, other, tmp_path):
    ((rule, message),) = roots(with_config_of(like, other), tmp_path / "c")
    assert rule == "NAM112"
    asked, told = message.split(", the tensors are named as in ")
    assert f"(model_type '{small(other).config['model_type']}')" in asked
    assert any(asked.startswith(f"audited as {family} ") for family in NAMED[other])
    assert set(told.partition(":")[0].split(" and ")) == NAMED[like]


@pytest.mark.parametrize("like", ["v3.1-nvfp4", "glm-5.2-nvfp4", "v4-flash-nvfp4", "kimi-k2.6-nvfp4"])
def test_exports_are_told_by_the_same_names(like, tmp_path):
    ((rule, message),) = roots(with_config_of(like, "minimax-m2.7"), tmp_path / "c")
    assert (rule, "audited as minimax-m2" in message) == ("NAM112", True)


@pytest.mark.parametrize(
    ("like", "model_type", "told"),
    [
        ("kimi-k2.5", "deepseek_v3", "kimi-k2.5: 123 such as"),
        ("qwen3-30b-fp8", "deepseek_v3", "qwen3-moe: 96 such as"),
        ("v4-flash", "deepseek_v41", "deepseek-v4: 41 such as"),
        ("v3", "deepseek_v4", "deepseek-v3 and kimi-k2: 62 such as"),
    ],
)
def test_what_a_rewritten_model_type_asks_of_config_json_follows_from_it(like, model_type, told, tmp_path):
    plan = small(like).copy()
    plan.config["model_type"] = model_type
    ((rule, message),) = roots(plan, tmp_path / "c")
    assert (rule, told in message) == ("NAM112", True)


def test_a_layout_that_adds_to_the_expected_one_is_named_where_its_tensors_are_too_many(tmp_path):
    plan = small("v3.2").copy()
    plan.config["model_type"] = "deepseek_v3"
    write(plan, tmp_path, strips=None)
    report = audit(tmp_path)
    assert report.verdict == "passed"
    (message,) = [each.message for each in report.findings if each.rule == "NAM102"]
    assert message == (
        "no tensor of this name follows from the config; the tensors are named as in deepseek-v3.2 and glm-5"
    )


def test_single_names_of_another_family_among_all_that_are_expected_tell_none(tmp_path):
    plan = small("v3").copy()
    first = next(plan.tensors())
    for name in ("layers.3.ffn.gate.bias_vl", "layers.3.attn.kv_norm.weight"):
        plan.insert(first.name, replace(first, name=name))
    write(plan, tmp_path, strips=None)
    found = {each.rule: each.message for each in audit(tmp_path).findings if each.severity != "info"}
    assert found == {"NAM102": "no tensor of this name follows from the config"}


def test_a_format_that_is_the_other_familys_own_is_not_said_to_be_nobodys(tmp_path):
    plan = small("v4.1-flash").copy()
    plan.config["model_type"] = "deepseek_v3"
    write(plan, tmp_path, strips=None)
    report = audit(tmp_path)
    assert {each.rule for each in report.findings if each.severity == "error"} == {"NAM112"}
    assert "is 'fp4': fp4, which this family does not read; supported" in report.incomplete[0]


def test_a_forced_family_is_named_beside_the_model_type(tmp_path):
    plan = with_config_of("v4.1-flash", "v3")
    plan.config["model_type"] = "deepseek_v41"
    ((rule, message),) = roots(plan, tmp_path / "c", family="deepseek-v3")
    assert rule == "NAM112"
    assert message.startswith(
        "audited as deepseek-v3 (model_type 'deepseek_v41'), the tensors are named as in deepseek-v4.1"
    )


def test_config_and_index_tell_it_without_shards(tmp_path, capsys):
    plan = with_config_of("v4.1-flash", "v3")
    write(plan, tmp_path, strips=None)
    for shard in tmp_path.glob("*.safetensors"):
        shard.unlink()
    assert main(["lint", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "failed" in out
    assert out.count("NAM112 other-family") == 1
    assert "CFG" not in out


@pytest.mark.parametrize("like", LIKES)
def test_the_names_of_a_release_tell_its_own_family(like):
    plan = small(like)
    prints = {family.name: family.fingerprint for family in families().values()}
    told = {name for name, each in prints.items() if each.is_in(telling(plan.rows, prints.values()))}
    own = next(each.name for each in families().values() if plan.config["model_type"] in each.model_types)
    assert own in told
    assert told <= next(
        names for names in (*NAMED.values(), NAMED["v3"] | NAMED["v3.2"]) if own in names and told <= names
    )


def test_damage_to_the_telling_names_alone_is_damage(tmp_path):
    plan = small("v3").copy()
    plan.drop(lambda name: name.endswith("kv_a_layernorm.weight"))
    assert {rule for rule, _ in roots(plan, tmp_path / "c")} == {"NAM101"}


def test_an_unknown_model_type_is_told_with_the_families_that_the_names_tell(tmp_path, capsys):
    plan = small("glm-5.3-flash-fp8").copy()
    plan.config["model_type"] = "glm6_next"
    write(plan, tmp_path, strips=None)
    report = audit(tmp_path)
    assert report.verdict == "incomplete"
    assert report.incomplete[0].endswith("audits without one; the tensors are named as in glm-5.3-flash")
    assert main(["lint", str(tmp_path)]) == 3
    assert "named as in glm-5.3-flash" in capsys.readouterr().out


def test_names_of_no_known_family_are_told_as_none(tmp_path):
    plan = small("v3").copy()
    plan.config["model_type"] = "other"
    plan.rewrite(lambda each: (replace(each, name=f"transformer.{each.name}"),))
    write(plan, tmp_path, strips=None)
    assert audit(tmp_path).incomplete[0].endswith("audits without one")
