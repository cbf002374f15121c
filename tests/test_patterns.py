"""Names fold into patterns that cover each of them once and nothing else."""

import json
import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditor.families import family_named
from auditor.globs import matcher
from auditor.patterns import count, expand_file, expert_of, kind_of, layer_of, patterns
from auditor.patterns import expand as names_of
from auditor.reporting.summary import file_patterns

DATA = Path(__file__).parent / "data"


def expand(pattern: str) -> list[str]:
    """Every name that a pattern stands for; written apart from the code under test."""
    parts = re.split(r"(?<!\[)\{(\d+)-(\d+)\}", pattern)
    parts[::3] = [text.replace("[{]", "{") for text in parts[::3]]
    ranges = [range(int(a), int(b) + 1) for a, b in zip(parts[1::3], parts[2::3], strict=True)]
    return [
        "".join(text + str(number) for text, number in zip(parts[::3], (*numbers, ""), strict=True))
        for numbers in product(*ranges)
    ]


numbers = st.integers(0, 6).map(str) | st.sampled_from(["00", "01", "10", "123456789", "1234567890", "٣", "²"])
words = st.sampled_from(["model", "layers", "experts", "weight", "a-1", "-", "", "x0", "w_2", "é"])
names = st.lists(numbers | words, max_size=5).map(".".join)
any_names = names | st.text("ab.-{}[]019", max_size=9) | st.text("{}[]\\-.0", max_size=9) | st.text(max_size=6)


def covered(folded: tuple[str, ...]) -> list[str]:
    return [name for each in folded for name in expand(each)]


@given(st.lists(names, max_size=40))
@example(["1.1", "1.2", "2.1"])
@example(["layers.0.a", "layers.1.a", "layers.00.a"])
def test_patterns_cover_each_name_once_and_nothing_else(given_names):
    every = covered(patterns(given_names))
    assert sorted(every) == sorted(set(given_names))


@given(st.lists(any_names, max_size=20))
@example(["a.{0-1}.b", "a.0.b", "a.1.b", "a.[{]0-1}.b", "a.[[{]]0-1}.b"])
@example(["{0-1}", "[{0-1}", "[{]0-1}", "{", "[{]", "{{0-1}}"])
def test_patterns_of_arbitrary_text_cover_it_and_come_back_the_same(given_names):
    folded = patterns(given_names)
    assert sorted(covered(folded)) == sorted(set(given_names))
    assert sorted(name for each in folded for name in names_of(each)) == sorted(set(given_names))
    assert sum(map(count, folded)) == len(set(given_names))


@given(st.lists(any_names, max_size=8), any_names)
def test_a_pattern_is_a_glob_for_its_names_alone(given_names, other):
    plain = [name for name in given_names if not set(name) & set("[]*?")]
    matchers = [matcher(each) for each in patterns(plain)]
    matched = {name for name in (*plain, other) if any(matches(name) for matches in matchers)}
    assert matched == set(plain)


@given(any_names)
def test_a_kind_of_real_experts_has_no_name_of_its_own(name):
    real = "model.layers.3.mlp.experts.7.up_proj.weight"
    assert kind_of(real) == "mlp.experts.{expert}.up_proj.weight"
    for hostile in (f"model.layers.3.mlp.experts.{{expert}}.up_proj.weight{name}", kind_of(real), f"{{{name}"):
        assert "{expert}" not in kind_of(hostile)


@given(st.lists(st.text("{}[]-0129of.", max_size=12), max_size=8))
@example(["model-{00001-00003}-of-00009.safetensors", "model-00001-of-00009.safetensors"])
def test_file_patterns_come_back_the_same(paths):
    given_paths = sorted(set(paths))
    folded = file_patterns(given_paths)
    assert sorted(path for each in folded for path in expand_file(each, 100)) == given_paths


@given(st.sets(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=60))
def test_any_set_of_layers_and_experts_folds_without_overlap(pairs):
    given_names = {f"model.layers.{layer}.mlp.experts.{expert}.up_proj.weight" for layer, expert in pairs}
    folded = patterns(given_names)
    every = covered(folded)
    assert len(every) == len(set(every)) == sum(count(each) for each in folded)
    assert set(every) == given_names


@given(st.lists(any_names, max_size=20), st.randoms())
def test_patterns_do_not_depend_on_the_order_of_names_nor_on_repetition(given_names, random):
    shuffled = given_names * 2
    random.shuffle(shuffled)
    assert patterns(shuffled) == patterns(given_names)


def test_a_full_box_is_one_pattern():
    given_names = [f"model.layers.{n}.mlp.experts.{e}.up_proj.weight" for n in range(3, 62) for e in range(256)]
    assert patterns(given_names) == ("model.layers.{3-61}.mlp.experts.{0-255}.up_proj.weight",)
    assert count("model.layers.{3-61}.mlp.experts.{0-255}.up_proj.weight") == 59 * 256


@pytest.mark.parametrize(
    ("given_names", "folded"),
    [
        ([], ()),
        (["lm_head.weight"], ("lm_head.weight",)),
        (["a.3.b"], ("a.3.b",)),
        (["a.3.b", "a.4.b"], ("a.{3-4}.b",)),
        (["a.3.b", "a.5.b"], ("a.3.b", "a.5.b")),
        (["a.9.b", "a.10.b", "a.11.b"], ("a.{9-11}.b",)),
        (["a.0", "a.1", "a.2"], ("a.{0-2}",)),
        (["0.a", "1.a"], ("{0-1}.a",)),
        (["a.01.b", "a.02.b"], ("a.01.b", "a.02.b")),
        (["a1.b", "a2.b"], ("a1.b", "a2.b")),
        (["model-1-of-2", "model-2-of-2"], ("model-{1-2}-of-2",)),
        (["a.{0-1}.b", "a.0.b", "a.1.b"], ("a.[{]0-1}.b", "a.{0-1}.b")),
        (["1.1", "1.2", "2.1", "2.2", "3.1"], ("3.1", "{1-2}.{1-2}")),
    ],
)
def test_runs_of_numbers_fold_and_nothing_else(given_names, folded):
    assert patterns(given_names) == folded


def test_a_name_with_more_numbers_than_any_layout_has_stands_for_itself():
    few = [f"{n}.1.2.3" for n in range(3)]
    many = [f"{n}.1.2.3.4" for n in range(3)]
    assert patterns([*few, *many]) == (*many, "{0-2}.1.2.3")
    assert len(patterns(f"{n}.{n % 7}.2.3.4.x{n}" for n in range(1_000))) == 1_000


def test_one_missing_expert_splits_the_experts_of_its_layer_alone():
    given_names = {f"model.layers.{n}.mlp.experts.{e}.w" for n in range(5) for e in range(8)}
    folded = patterns(given_names - {"model.layers.2.mlp.experts.3.w"})
    assert set(folded) == {
        "model.layers.{0-1}.mlp.experts.{0-7}.w",
        "model.layers.2.mlp.experts.{0-2}.w",
        "model.layers.2.mlp.experts.{4-7}.w",
        "model.layers.{3-4}.mlp.experts.{0-7}.w",
    }


@pytest.mark.parametrize("release", ["deepseek-v3", "deepseek-v3.2"])
def test_a_release_folds_into_the_patterns_of_its_published_dump(release):
    family = family_named(release)
    config = family.config.model_validate(json.loads((DATA / f"config.{release}.json").read_text()))
    rows = (DATA / f"inventory.{release}.tsv").read_text().splitlines()[1:]
    published = [row.split("\t")[0] for row in rows]
    every = set(family.expectations(config).names)
    assert sum(map(count, published)) == len(every)
    folded = patterns(every)
    assert {name for each in folded for name in expand(each)} == every
    assert set(folded) == set(published)


@pytest.mark.parametrize(
    ("pattern", "names_covered"), [("a", 1), ("a.{0-0}", 1), ("a.{3-61}", 59), ("{0-1}.{0-2}.{5-6}", 12), ("a.7.b", 1)]
)
def test_a_pattern_counts_its_names(pattern, names_covered):
    assert count(pattern) == names_covered == len(expand(pattern))


@pytest.mark.parametrize(
    ("name", "layer", "expert"),
    [
        ("model.layers.0.input_layernorm.weight", 0, None),
        ("model.layers.61.eh_proj.weight", 61, None),
        ("model.layers.3.mlp.experts.255.down_proj.weight_scale_inv", 3, 255),
        ("model.layers.3.mlp.shared_experts.up_proj.weight", 3, None),
        ("model.layers.3.mlp.experts.x.w", 3, None),
        ("model.layers.03.mlp.experts.1.w", None, None),
        ("model.layers.3.mlp.experts.01.w", 3, None),
        ("model.layers.3", None, None),
        ("model.layers.-1.a", None, None),
        ("layers.1.a", 1, None),
        ("language_model.model.layers.1.a", 1, None),
        ("mtp.0.a", 0, None),
        ("a.b.c.d.layers.1.a", None, None),
        ("xmodel-layers.1.a", None, None),
        ("model.embed_tokens.weight", None, None),
        ("lm_head.weight", None, None),
        ("model.layers.1234567890.a", None, None),
        ("model.layers.٣.a", None, None),
        ("", None, None),
    ],
)
def test_a_name_tells_its_layer_and_expert(name, layer, expert):
    assert (layer_of(name), expert_of(name)) == (layer, expert)


def test_folding_every_name_of_a_release_is_quick():
    given_names = [f"model.layers.{n}.mlp.experts.{e}.{p}" for n in range(62) for e in range(256) for p in "abcdef"]
    assert len(patterns(given_names)) == 6
