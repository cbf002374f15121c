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
RAY = {name: list(yaml.safe_load_all((DEPLOY / f"ray-{name}.yaml").read_text("utf-8"))) for name in ("job", "cluster")}
JOBS = list(yaml.safe_load_all((DEPLOY / "parts-kubernetes.yaml").read_text("utf-8")))


@pytest.mark.parametrize("manifest", [*JOBS, RAY["job"][1]], ids=lambda each: each["metadata"]["name"])
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
    assert len(list((tmp_path / "place").glob("*.msgpack"))) == 6  # five shards, and what they have in common
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


@pytest.mark.parametrize("name", RAY)
def test_kuberay_takes_the_manifests(name: str) -> None:
    folder = os.environ.get("KUBERAY_CRDS")
    if folder is None:
        pytest.skip("KUBERAY_CRDS names no folder with KubeRay's definitions")
    (path,) = Path(folder).glob(f"ray.io_ray{name}s.*.yaml.gz")
    definition = yaml.safe_load(gzip.decompress(path.read_bytes()))
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    jsonschema.validate(RAY[name][0], schema)
    wrong = copy.deepcopy(RAY[name][0])
    cluster_of(wrong)["authOption"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def cluster_of(manifest: dict) -> dict:
    """The part that describes a cluster."""
    return manifest["spec"].get("rayClusterSpec", manifest["spec"])


def test_a_cluster_is_the_same_for_a_job_and_to_stay() -> None:
    job, cluster = (cluster_of(RAY[name][0]) for name in ("job", "cluster"))
    assert job == cluster
    assert RAY["job"][1] == RAY["cluster"][1]
    assert job["authOptions"] == {"mode": "token"}


def test_the_image_has_the_ray_of_the_manifests_and_all_that_the_service_s_is_made_from() -> None:
    lines, others = (
        (DEPLOY / name).read_text("utf-8").replace("\\\n", " ").splitlines()
        for name in ("Containerfile.ray", "Containerfile")
    )
    assert [line for line in lines if line.startswith(("FROM", "COPY"))] == [
        line for line in others if line.startswith(("FROM", "COPY"))
    ]
    assert [line for line in lines if line.startswith("USER")][-1] == "USER 1000:1000"
    pinned = (DEPLOY.parent / "ci" / "constraints.txt").read_text("utf-8").splitlines()
    assert f"ray=={cluster_of(RAY['job'][0])['rayVersion']}" in pinned


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


def test_what_the_cluster_is_given_to_run_is_a_command_that_there_is() -> None:
    words = shlex.split(RAY["job"][0]["spec"]["entrypoint"])
    assert words[0] == "auditor"
    options = parser_for(words[1:]).parse_args(words[1:])
    assert (options.command, options.engine, options.depth) == ("audit", "ray", "full")
    assert " ".join(words) in re.sub(r"\\\n# *", "", (DEPLOY / "ray-cluster.yaml").read_text("utf-8"))
