"""The manifests that a cluster is given are ones that it takes, and run commands that there are."""

import copy
import gzip
import os
import re
import shlex
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from auditor import cli
from auditor.cli.arguments import parser_for
from auditor.forge import forge

DEPLOY = Path(__file__).parents[1] / "deploy"
RAY = list(yaml.safe_load_all((DEPLOY / "ray-job.yaml").read_text("utf-8")))
JOBS = list(yaml.safe_load_all((DEPLOY / "parts-kubernetes.yaml").read_text("utf-8")))


@pytest.mark.parametrize("manifest", [*JOBS, RAY[1]], ids=lambda each: each["metadata"]["name"])
def test_kubernetes_takes_the_manifests(manifest: dict) -> None:
    kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_a_wrong_manifest_is_noticed() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(JOBS[1] | {"spec": {"completions": "eight"}}, "1.33", strict=True)


def test_the_jobs_read_every_part_and_judge(tmp_path: Path, monkeypatch) -> None:
    """Each command as the shell of a pod starts it, with an index for each completion."""
    forge(tmp_path / "tiny")
    monkeypatch.setenv("SOURCE", str(tmp_path / "tiny"))
    monkeypatch.setenv("PLACE", str(tmp_path / "place"))
    reading, judging = (job["spec"] for job in JOBS if job["kind"] == "Job")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "auditor").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "bin" / "auditor").chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def arguments(spec: dict, **environment: str) -> list[str]:
        (container,) = spec["template"]["spec"]["containers"]
        command = [*container["command"], *container["args"]]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**path, **environment})
        return done.stdout.splitlines()

    for index in range(reading["completions"]):
        assert cli.main([*arguments(reading, JOB_COMPLETION_INDEX=str(index)), "--quiet"]) == 0
    assert len(list((tmp_path / "place").glob("*.json"))) == 6  # five shards, and what they have in common
    assert cli.main([*arguments(judging), "--quiet", "--json", str(tmp_path / "report.json")]) == 0
    assert '"resumed_shards": 5' in (tmp_path / "report.json").read_text("utf-8")


def test_the_array_reads_every_part(tmp_path: Path) -> None:
    (tmp_path / "auditor").write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    (tmp_path / "auditor").chmod(0o755)
    given = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_CPUS_PER_TASK": "4"}
    environment = {**os.environ, **given, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = [str(DEPLOY / "parts-slurm.sh"), "/models/a b", "/scratch"]
    done = subprocess.run(script, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "read /models/a b --resume /scratch --part 3/8 --jobs 4 "
    named = re.findall(r"auditor (\S+) /", (DEPLOY / "parts-slurm.sh").read_text("utf-8"))
    assert {shlex.split(each)[0] for each in named} == {"audit"}


def test_kuberay_takes_the_job() -> None:
    folder = os.environ.get("KUBERAY_CRDS")
    if folder is None:
        pytest.skip("KUBERAY_CRDS names no folder with KubeRay's definitions")
    (path,) = Path(folder).glob("ray.io_rayjobs.*.yaml.gz")
    definition = yaml.safe_load(gzip.decompress(path.read_bytes()))
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    jsonschema.validate(RAY[0], schema)
    wrong = copy.deepcopy(RAY[0])
    wrong["spec"]["rayClusterSpec"]["authOption"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def strict(schema: dict) -> dict:
    """A definition that refuses fields which it does not know, as they would be dropped."""
    if isinstance(schema.get("properties"), dict):
        schema["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and set(schema["properties"]) != {"metadata"}:
            schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    if isinstance(schema.get("items"), dict):
        schema["items"] = strict(schema["items"])
    return schema


def test_the_ray_job_s_entrypoint_is_a_command_that_there_is() -> None:
    words = shlex.split(RAY[0]["spec"]["entrypoint"])
    assert words[0] == "auditor"
    options = parser_for(words[1:]).parse_args(words[1:])
    assert (options.command, options.engine, options.depth) == ("audit", "ray", "full")
