"""The profile for one pod plans the workflow, and the pod asks for what the profile uses."""

import subprocess

import pytest
import yaml
from tests.workflow.harness import ROOT, Project

FOLDER = ROOT / "profiles" / "kubernetes"


def test_the_profile_plans_the_workflow(tmp_path):
    run = Project.copy_to(tmp_path / "project").snakemake(
        "--dry-run", "--workflow-profile", "profiles/kubernetes", "--quiet", "rules"
    )
    assert run.status == 0, run.text[-3000:]
    assert "profile profiles/kubernetes" in run.text


@pytest.mark.parametrize("job", ["job.yaml", "job-s3.yaml"])
def test_pod_and_profile_agree(job):
    profile = yaml.safe_load((FOLDER / "config.yaml").read_text())
    pod = yaml.safe_load((FOLDER / job).read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    asked, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert int(asked["cpu"]) == profile["cores"]
    available = dict(item.split("=") for item in profile["resources"])
    assert int(limits["nvidia.com/gpu"]) == int(available["gpu"])
    assert int(available["mem_mb"]) < int(asked["memory"].removesuffix("Gi")) * 1024
    assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in container["volumeMounts"]}
    assert "profiles/kubernetes" in container["args"][0]
    subprocess.run(["bash", "-n", "-c", container["args"][0]], check=True)
    secrets = [e for e in container["env"] if "TOKEN" in e["name"] or "KEY" in e["name"]]
    assert secrets
    assert all("valueFrom" in e and "value" not in e for e in secrets)
