"""Where the model comes from, and that it is the one that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import charts
from tests.support.charts import Manifest, container, one, rendered, server

FETCHED = ("bundle-registry", "bundle-registry-insecure", "bundle-s3", "bundle-s3-endpoint")
ELSEWHERE = (*FETCHED, "bundle-pvc", "bundle-volume")
CHECKED = ("bundle-image", "bundle-registry", "bundle-pvc", "bundle-s3", "bundle-s3-endpoint")


def inits(feature: str) -> dict[str, Manifest]:
    """Give the init containers of a feature by their names."""
    pod = server(rendered(charts.feature(feature)))
    return {found["name"]: found for found in pod.get("initContainers", ())}


def served(feature: str) -> str:
    """Give the folder that the server is told to serve."""
    folder: str = one(rendered(charts.feature(feature)), "ConfigMap", charts.RELEASE)["data"][
        "TIMBRE_BUNDLE"
    ]
    return folder


def volume(feature: str) -> dict[str, Any]:
    """Give what the bundle lies in."""
    pod = server(rendered(charts.feature(feature)))
    [found] = [found for found in pod["volumes"] if found["name"] == "bundle"]
    return {key: found[key] for key in found if key != "name"}


def command(feature: str, name: str) -> list[str]:
    """Give the command line of an init container."""
    found = inits(feature)[name]
    return [*found["command"], *found["args"]]


def test_the_image_s_own_needs_nothing() -> None:
    """No variable, no volume, no init container."""
    manifests = rendered()
    assert "TIMBRE_BUNDLE" not in one(manifests, "ConfigMap", charts.RELEASE)["data"]
    assert "initContainers" not in server(manifests)
    assert [mount["name"] for mount in container(manifests)["volumeMounts"]] == ["temporary"]


@pytest.mark.parametrize("feature", ELSEWHERE)
def test_one_from_elsewhere_is_mounted_read_only(feature: str) -> None:
    """For the server; what fetches it may write."""
    mount = {"name": "bundle", "mountPath": "/bundle", "readOnly": True}
    assert mount in container(rendered(charts.feature(feature)))["volumeMounts"]
    assert served(feature).startswith("/bundle/")


@pytest.mark.parametrize("feature", CHECKED)
def test_a_digest_is_checked_of_the_folder_that_is_served(feature: str) -> None:
    """By the last init container, whatever the bundle comes from: the server never starts else."""
    *_, last = inits(feature).values()
    digest = charts.feature(feature)["bundle"]["digest"]
    assert f"--digest={digest}" in last["args"]
    assert last["image"] == container(rendered(charts.feature(feature)))["image"]
    folder = [] if feature == "bundle-image" else [served(feature)]
    assert [argument for argument in last["args"] if argument.startswith("/")] == folder


def test_a_registry_s_is_pulled() -> None:
    """With its digest and credentials; again, where the pod has it already."""
    values = charts.feature("bundle-registry")["bundle"]
    assert command("bundle-registry", "pull-bundle") == [
        "timbre",
        "bundle",
        "pull",
        values["registry"]["reference"],
        served("bundle-registry"),
        "--force",
        f"--digest={values['digest']}",
    ]
    pull = inits("bundle-registry")["pull-bundle"]
    assert pull["env"] == [{"name": "DOCKER_CONFIG", "value": "/registry"}]
    assert {"name": "registry", "mountPath": "/registry", "readOnly": True} in pull["volumeMounts"]
    source = {
        "secretName": values["registry"]["credentialsSecret"],
        "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
    }
    pod = server(rendered(charts.feature("bundle-registry")))
    assert {"name": "registry", "secret": source} in pod["volumes"]


def test_the_server_has_no_credentials_of_the_registry() -> None:
    """Only what pulls has."""
    mounts = container(rendered(charts.feature("bundle-registry")))["volumeMounts"]
    assert "registry" not in {mount["name"] for mount in mounts}


def test_a_registry_may_be_open_and_plain() -> None:
    """Without credentials there is neither variable nor volume for them."""
    assert "--insecure" in command("bundle-registry-insecure", "pull-bundle")
    assert "env" not in inits("bundle-registry-insecure")["pull-bundle"]
    assert volume("bundle-registry-insecure") == {"emptyDir": {"sizeLimit": "4Gi"}}


def test_a_claim_s_and_an_image_volume_s_are_only_read() -> None:
    """From their folders."""
    assert volume("bundle-pvc") == {
        "persistentVolumeClaim": {"claimName": "models", "readOnly": True}
    }
    assert served("bundle-pvc") == "/bundle/speech/1.2.0"
    reference = charts.feature("bundle-volume")["bundle"]["volume"]["reference"]
    assert volume("bundle-volume") == {
        "image": {"reference": reference, "pullPolicy": "IfNotPresent"}
    }
    assert served("bundle-volume") == "/bundle/bundle"


@pytest.mark.parametrize(("path", "folder"), [("", "/bundle/"), ("/a/", "/bundle/a")])
def test_a_path_may_have_slashes_around_it_or_not_be(path: str, folder: str) -> None:
    """The folder then is the claim's own."""
    values = {"bundle": {"source": "pvc", "pvc": {"claimName": "models", "path": path}}}
    assert one(rendered(values), "ConfigMap", charts.RELEASE)["data"]["TIMBRE_BUNDLE"] == folder


def test_a_bucket_s_is_downloaded_and_then_checked() -> None:
    """In this order, into the folder that is served."""
    assert list(inits("bundle-s3")) == ["download-bundle", "verify-bundle"]
    assert command("bundle-s3", "download-bundle")[-2:] == [
        "s3://models/speech/1.2.0",
        served("bundle-s3"),
    ]
    variables = {
        entry["name"]: entry["value"] for entry in inits("bundle-s3")["download-bundle"]["env"]
    }
    assert variables == {"HOME": "/tmp", "AWS_REGION": "eu-central-1"}  # noqa: S108


def test_a_bucket_may_be_somebody_else_s() -> None:
    """With an endpoint, and credentials that only what downloads has."""
    download = inits("bundle-s3-endpoint")["download-bundle"]
    endpoint = {"name": "AWS_ENDPOINT_URL_S3", "value": "http://minio.storage:9000"}
    assert endpoint in download["env"]
    credentials = {"name": "AWS_SHARED_CREDENTIALS_FILE", "value": "/s3/credentials"}
    assert credentials in download["env"]
    mount = {"name": "s3", "mountPath": "/s3", "readOnly": True}
    assert mount in download["volumeMounts"]
    manifests = rendered(charts.feature("bundle-s3-endpoint"))
    source = {
        "secretName": "minio-credentials",
        "items": [{"key": "credentials", "path": "credentials"}],
    }
    assert {"name": "s3", "secret": source} in server(manifests)["volumes"]
    for found in (container(manifests), inits("bundle-s3-endpoint")["verify-bundle"]):
        assert mount not in found["volumeMounts"]


@pytest.mark.parametrize(
    ("feature", "fetching"), [("bundle-registry", "pull-bundle"), ("bundle-s3", "download-bundle")]
)
def test_what_fetches_has_the_server_s_proxy_and_certificates(feature: str, fetching: str) -> None:
    """A store behind either can't be reached otherwise."""
    own = {"name": "REQUESTS_CA_BUNDLE", "value": "/ca/ca.crt"}
    mount = {"name": "ca", "mountPath": "/ca"}
    extra = {
        "extraEnv": [own],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [mount],
    }
    pod = server(rendered(charts.feature(feature) | extra))
    [found] = [each for each in pod["initContainers"] if each["name"] == fetching]
    assert found["env"][-1] == own
    assert found["volumeMounts"][-1] == mount
