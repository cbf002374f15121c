"""Lists of modules mean what their writers' loaders take them for, and no list costs minutes."""

import contextlib
import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import SourceError
from auditor.families.expressions import Automaton, UnreadableError
from auditor.families.selection import Selection

LAYER = "model.layers.3.mlp"


@pytest.mark.parametrize(
    ("entry", "module"),
    [
        ("lm_head", "lm_head"),
        ("lm_head", "language_model.lm_head"),
        ("self_attn", "model.layers.3.self_attn.q_a_proj"),
        ("model.layers.3", "model.layers.3.mlp.gate_proj"),
        ("layers.3.mlp.down_proj.weight", f"{LAYER}.down_proj"),
        ("model.layers.3*", f"{LAYER}.gate_proj"),
        ("model.layers.3*", "model.layers.31.mlp.gate_proj"),
        ("*.mlp", f"{LAYER}.gate_proj"),
        ("*", "lm_head"),
        ("model.layers.?.*proj", f"{LAYER}.gate_proj"),
        ("model.layers.[0-3].mlp*", f"{LAYER}.gate_proj"),
        (r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", f"{LAYER}.down_proj"),
        (r"re:model\.layers\.\d+\.mlp", f"{LAYER}.shared_experts.down_proj"),
        (r"re:.*proj$", f"{LAYER}.down_proj"),
    ],
)
def test_an_entry_means_a_module(entry, module):
    assert list(Selection([entry]).matching(module)) == [entry]
    assert Selection(["other", entry, "re:x", "y*", "*z"]).has(module)


@pytest.mark.parametrize(
    ("entry", "module"),
    [
        ("head", "lm_head"),
        ("layers.3", "model.layers.31.mlp.gate_proj"),
        ("model.layers.1.*", "model.layers.11.mlp.gate_proj"),
        ("*.ml", f"{LAYER}.gate_proj"),
        ("model.layers.[!0-3].mlp*", f"{LAYER}.gate_proj"),
        (r"re:mlp", f"{LAYER}.down_proj"),
        (r"re:.*mlp\.(gate|up|down)_proj.*", f"{LAYER}.shared_experts.down_proj"),
        (r"re:.*mlp$", f"{LAYER}.down_proj"),
    ],
)
def test_an_entry_does_not_mean_what_only_resembles_it(entry, module):
    assert not list(Selection([entry]).matching(module))


def test_experts_are_meant_by_one_name_for_all_or_by_all_their_names():
    module = f"{LAYER}.experts.{{expert}}.up_proj"
    assert Selection([f"{LAYER}.experts"]).has(module, 12)
    assert Selection([r"re:.*experts\.\d+\."]).has(module, 12)
    assert Selection([f"{LAYER}.experts.{n}.up_proj" for n in range(12)]).has(module, 12)
    assert not Selection([f"{LAYER}.experts.{n}.up_proj" for n in range(11)]).has(module, 12)


# --- expressions

_ATOMS = st.sampled_from(["a", "b", r"\.", ".", "[ab]", "[^a]", r"\d", "1", r"\w", "[0-9.]"])
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}", "{,2}", "*?", "{0}"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        )
    ),
    max_leaves=8,
)
_NAMES = st.text("ab.12", min_size=1, max_size=8)


@given(expression=_EXPRESSIONS, end=st.sampled_from(["", "$"]), name=_NAMES)
def test_an_expression_matches_as_pythons_does(expression, end, name):
    automaton = Automaton()
    automaton.add_expression(f"({expression}){end}")
    assert bool(automaton.matching(name)) == bool(re.match(f"({expression}){end and chr(92) + 'Z'}", name))


@given(glob=st.text("ab.*?1", min_size=1, max_size=6), name=_NAMES)
def test_a_glob_matches_a_module_or_one_that_it_lies_in(glob, name):
    automaton = Automaton()
    automaton.add_glob(glob)
    modules = [name, *(name[:place] for place, letter in enumerate(name) if letter == "." and place)]
    assert bool(automaton.matching(name)) == any(fnmatch.fnmatchcase(each, glob) for each in modules)


@given(expressions=st.lists(_EXPRESSIONS, min_size=1, max_size=4), name=_NAMES)
def test_expressions_side_by_side_match_each_for_itself(expressions, name):
    automaton = Automaton()
    numbers = [automaton.add_expression(each) for each in expressions]
    wanted = {number for number, each in zip(numbers, expressions, strict=True) if re.match(each, name)}
    assert set(automaton.matching(name)) == wanted


@pytest.mark.parametrize(
    "expression",
    ["(?!a)b", "(?i)a", r"(a)\1", "a**", "(", "[", "a{", "a{2,1}", r"\b", "(?P<x>a)", "a)", "a$b", "a{1000}", "(" * 30],
)
def test_what_is_beyond_the_subset_is_refused_and_never_guessed(expression):
    with pytest.raises(UnreadableError):
        Selection([f"re:{expression}"])


@pytest.mark.parametrize(
    "entries",
    [
        [f"model.layers.{n}.mlp.up_proj" for n in range(200_000)],
        [f"model.layers.{n}*" for n in range(200_000)],
        [f"re:{'(.*a)*' * 20}{n}" for n in range(200_000)],
        [f"{'*a' * 40}{n}" for n in range(200_000)],
        [f"re:{'((((((((((a){99}){99}){99}){99}){99}){99}){99}){99}){99}){99}'}"],
        [f"re:{'((((((((((){99}){99}){99}){99}){99}){99}){99}){99}){99}){99}'}"],
        [f"re:(.*{a}.*{b}.*{a}.*)*$" for a in "model.layersproj" for b in "0123456789"],
    ],
)
def test_a_hostile_list_costs_seconds_and_is_then_refused(entries):
    begin = time.process_time()
    with contextlib.suppress(UnreadableError, SourceError):
        selection = Selection(entries)
        for layer in range(100):
            for module in ("self_attn.q_proj", "mlp.experts.{expert}.up_proj"):
                selection.has(f"model.layers.{layer}.{module}", 900)
    assert time.process_time() - begin < 30


@pytest.mark.parametrize("entries", [[""], [7], [None], ["x" * 513], ["a"] * 200_001])
def test_entries_that_are_no_names_are_refused(entries):
    with pytest.raises(UnreadableError):
        Selection(entries)
