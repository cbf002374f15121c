"""No output of ours replaces or adds a file of the checkpoint: exit 2 before anything is written."""

import os
from pathlib import Path

import pytest

from auditor import cli
from auditor.forge import forge


@pytest.fixture
def sound(tmp_path):
    forge(tmp_path / "checkpoint", like="tiny", sparse=True)
    (tmp_path / "checkpoint" / "tokenizer.json").write_text("{}")
    (tmp_path / "checkpoint" / "README.md").write_text("# a model\n")
    return tmp_path / "checkpoint"


def _state(folder: Path) -> dict[str, tuple[int, int, int]]:
    every = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) for path in every}


def _refused(capsys, folder: Path, *arguments: object) -> str:
    before = _state(folder)
    capsys.readouterr()
    code = cli.main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1
    assert _state(folder) == before, "something was written all the same"
    return err


FILES = ["json", "html", "sarif", "junit", "markdown"]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors.index.json", "model-00003-of-000005.safetensors", "tokenizer.json", "README.md"],
)
def test_a_file_of_the_checkpoint_is_never_replaced(sound, capsys, kind, name):
    assert "file of the checkpoint" in _refused(capsys, sound, "audit", sound, f"--{kind}", sound / name)


@pytest.mark.parametrize("way", ["symlink", "folder", "hard link", "dots", "relative"])
def test_nor_is_it_through_a_link(sound, tmp_path, capsys, way, monkeypatch):
    target = tmp_path / "target.json"
    if way == "symlink":
        target.symlink_to(sound / "config.json")
    elif way == "hard link":
        os.link(sound / "config.json", target)
    elif way == "folder":
        (tmp_path / "elsewhere").symlink_to(sound)
        target = tmp_path / "elsewhere" / "config.json"
    elif way == "dots":
        target = sound / "sub" / ".." / "config.json"
        (sound / "sub").mkdir()
    else:
        monkeypatch.chdir(sound)
        target = Path("config.json")
    _refused(capsys, sound, "audit", sound, "--json", target)


def test_nor_what_a_link_of_the_checkpoint_leads_to(sound, tmp_path, capsys):
    """A hub cache: the files of a snapshot are links into blobs/."""
    (tmp_path / "blobs").mkdir()
    (sound / "config.json").rename(tmp_path / "blobs" / "abc")
    (sound / "config.json").symlink_to(Path("../blobs/abc"))
    _refused(capsys, tmp_path, "audit", sound, "--json", tmp_path / "blobs" / "abc")
    _refused(capsys, tmp_path, "audit", sound, "--json", sound / "config.json")


def test_nor_when_the_checkpoint_itself_is_named_through_a_link(sound, tmp_path, capsys):
    (tmp_path / "alias").symlink_to(sound)
    _refused(capsys, sound, "audit", tmp_path / "alias", "--json", sound / "config.json")


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "model-00009-of-000005.safetensors", "model.safetensors.index.json", "config.json",
     "adapter_config.json", "pytorch_model.bin", "consolidated.pth", "weights.pt", "tokenizer.json", "modeling_x.py",
     "generation_config.json", "MODEL.SAFETENSORS", "named_by_the_index"],
)  # fmt: skip
def test_no_new_file_that_a_loader_would_read_comes_into_the_checkpoint(sound, capsys, name):
    index = sound / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00002-of-000005.safetensors", "named_by_the_index"))
    if (sound / name).exists():
        (sound / name).unlink()
    _refused(capsys, sound, "audit", sound, "--json", sound / name)


@pytest.mark.parametrize("command", ["count", "diff", "csv"])
def test_other_commands_and_outputs_are_held_to_it_as_well(sound, tmp_path, capsys, command):
    forge(tmp_path / "other", like="tiny", sparse=True)
    if command == "count":
        _refused(capsys, sound, "count", sound, "--json", sound / "config.json")
        _refused(capsys, sound, "count", sound / "config.json", "--json", sound / "config.json")
    elif command == "diff":
        for sides in ((sound, tmp_path / "other"), (tmp_path / "other", sound)):
            for kind in ("json", "html"):
                _refused(capsys, sound, "diff", *sides, f"--{kind}", sound / "config.json")
    else:
        (sound / "findings.csv").write_text("its own")
        _refused(capsys, sound, "audit", sound, "--csv", sound)


def test_a_report_that_is_read_is_not_written_over_by_another_format(sound, tmp_path, capsys):
    saved, policy = tmp_path / "a.json", tmp_path / "policy.toml"
    policy.write_text("")
    assert cli.main(["audit", str(sound), "--json", str(saved), "--quiet"]) == 0
    _refused(capsys, tmp_path, "report", saved, "--html", saved)
    _refused(capsys, tmp_path, "diff", saved, sound, "--json", saved)
    _refused(capsys, tmp_path, "audit", sound, "--policy", policy, "--json", policy)
    _refused(capsys, tmp_path, "audit", sound, "--baseline", saved, "--html", saved)


@pytest.mark.parametrize("way", ["report", "another", "link"])
def test_a_checkpoint_that_the_command_was_not_told_of_is_known_by_its_files(sound, tmp_path, capsys, way):
    saved = tmp_path / "a.json"
    forge(tmp_path / "other", like="tiny", sparse=True)
    assert cli.main(["audit", str(sound), "--json", str(saved), "--quiet"]) == 0
    target = sound / "config.json"
    if way == "link":
        target = tmp_path / "b.json"
        target.symlink_to(sound / "model-00003-of-000005.safetensors")
    command = ["audit", tmp_path / "other"] if way == "another" else ["report", saved]
    assert "file of the checkpoint" in _refused(capsys, sound, *command, "--html", target)
    assert cli.main(["report", str(saved), "--html", str(sound / "report.html")]) == 0


def test_a_report_of_ours_may_stand_beside_the_checkpoint_and_be_written_again(sound, capsys):
    """A file of another name is no file of the checkpoint, and what we wrote we may write again."""
    arguments = [f"--{kind}={sound / f'audit-report.{kind}'}" for kind in FILES]
    for _ in range(2):
        assert cli.main(["audit", str(sound), "--quiet", *arguments]) == 0, capsys.readouterr().err
    (sound / "count.json").unlink(missing_ok=True)
    assert cli.main(["count", str(sound), "--json", str(sound / "count.json")]) == 0


def test_a_model_card_that_speaks_of_an_auditor_is_the_checkpoints_own(sound, tmp_path, capsys):
    for text in ("# Model\n\nChecked by an auditor.\n", "# auditor: passed\n", '{"note": "auditor"}'):
        (sound / "README.md").write_text(text)
        _refused(capsys, tmp_path, "audit", sound, "--markdown", sound / "README.md")


def test_a_baseline_may_be_replaced_by_the_report_that_follows_it(sound, tmp_path):
    saved = str(tmp_path / "a.json")
    assert cli.main(["audit", str(sound), "--json", saved, "--quiet"]) == 0
    assert cli.main(["audit", str(sound), "--baseline", saved, "--json", saved, "--quiet"]) == 0


def test_unwritable_outputs_of_every_command_are_3_in_one_line(sound, tmp_path, capsys):
    saved = tmp_path / "a.json"
    assert cli.main(["audit", str(sound), "--json", str(saved), "--quiet"]) == 0
    for command in (["audit", sound], ["report", saved], ["diff", sound, sound], ["count", sound]):
        capsys.readouterr()
        assert cli.main([*map(str, command), "--json", "/dev/full"]) == 3
        err = capsys.readouterr().err
        assert err == "auditor: cannot write /dev/full: No space left on device\n"
        assert cli.main([*map(str, command), "--json", str(tmp_path / "absent" / "x.json")]) == 2


def test_site_in_the_place_of_a_checkpoint_is_refused(sound, tmp_path, capsys):
    saved = tmp_path / "a.json"
    assert cli.main(["audit", str(sound), "--json", str(saved), "--quiet"]) == 0
    _refused(capsys, sound, "publish", saved, "--site", sound)
    (tmp_path / "alias").symlink_to(sound)
    _refused(capsys, sound, "publish", saved, "--site", tmp_path / "alias")
