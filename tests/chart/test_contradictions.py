"""Values that contradict each other are refused with a sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from service.settings import Settings
from tests.support import charts
from tests.support.charts import Values, refusal, rendered

GATEWAY: Values = {"gateway": [{"podSelector": {}}]}
ROUTE: dict[str, Any] = {
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    "networkPolicy": GATEWAY,
}
OWN: dict[str, Any] = {
    "httpRoute": {"enabled": True},
    "gateway": {"enabled": True, "className": "example"},
    "networkPolicy": GATEWAY,
}
DIGEST = f"sha256:{'0' * 64}"
TOKEN = "x" * 32
SHUT_OUT = (
    "The network policy would shut {} out: name its pods in networkPolicy.{}, or disable "
    "networkPolicy."
)


def own(**gateway: object) -> dict[str, Any]:
    """Give values with a Gateway of the release's own that is otherwise."""
    return OWN | {"gateway": OWN["gateway"] | gateway}


def bundle(source: str, **more: object) -> dict[str, Any]:
    """Give values with a bundle from somewhere."""
    return {"bundle": {"source": source, **more}}


CONTRADICTIONS: dict[str, tuple[Values, str]] = {
    "a route and an Ingress": (
        ROUTE | {"ingress": {"enabled": True}},
        "httpRoute and ingress are two ways to the same paths: enable one of them.",
    ),
    "a route to nowhere": (
        {"httpRoute": {"enabled": True}, "networkPolicy": GATEWAY},
        "httpRoute needs a Gateway: name one in httpRoute.parentRefs, or enable gateway.",
    ),
    "a Gateway without a route": (
        {"gateway": {"enabled": True, "className": "example"}},
        "gateway has no route to the server: enable httpRoute too.",
    ),
    "a Gateway without a class": (
        own(className=""),
        (
            "gateway needs a class: set gateway.className to one that `kubectl get gatewayclass` "
            "lists."
        ),
    ),
    "a Gateway without a listener": (
        own(http={"enabled": False}),
        "gateway has no listener: enable gateway.http or gateway.https.",
    ),
    "https without a certificate": (
        own(https={"enabled": True}),
        (
            "gateway.https needs a certificate: set gateway.https.secretName, or name a "
            "cert-manager issuer in gateway.annotations."
        ),
    ),
    "a certificate for no name": (
        own(https={"enabled": True}, annotations={"cert-manager.io/issuer": "ours"}),
        "cert-manager needs a name to make a certificate for: set httpRoute.hostnames.",
    ),
    "two autoscalers": (
        charts.feature("keda") | {"autoscaling": {"enabled": True}},
        "autoscaling and keda would scale the same pods: enable one of them.",
    ),
    "an autoscaler with nothing to go by": (
        {"autoscaling": {"enabled": True, "cpuUtilization": 0}},
        (
            "autoscaling has nothing to scale on: set autoscaling.cpuUtilization, or enable "
            "autoscaling.demand."
        ),
    ),
    "an autoscaler upside down": (
        {"autoscaling": {"enabled": True, "minReplicas": 5}},
        (
            "autoscaling.minReplicas is above autoscaling.maxReplicas: lower the one or raise the "
            "other."
        ),
    ),
    "KEDA upside down": (
        {"keda": {"enabled": True, "minReplicas": 5, "prometheus": {"url": "http://a"}}},
        "keda.minReplicas is above keda.maxReplicas: lower the one or raise the other.",
    ),
    "KEDA without Prometheus": (
        {"keda": {"enabled": True}},
        "keda asks Prometheus: set keda.prometheus.url, such as http://prometheus.monitoring:9090.",
    ),
    "a route that the policy shuts out": (
        ROUTE | {"networkPolicy": {"gateway": []}},
        SHUT_OUT.format("the gateway", "gateway"),
    ),
    "an Ingress that the policy shuts out": (
        {"ingress": {"enabled": True}},
        SHUT_OUT.format("the gateway", "gateway"),
    ),
    "annotations that the policy makes vain": (
        {"monitoring": {"annotations": {"enabled": True}}},
        SHUT_OUT.format("Prometheus", "prometheus"),
    ),
    "a PodMonitor that the policy makes vain": (
        {"monitoring": {"podMonitor": {"enabled": True}}},
        SHUT_OUT.format("Prometheus", "prometheus"),
    ),
    "a registry that the policy shuts out": (
        bundle("registry", registry={"reference": "oci://a.example/b:1"})
        | {"networkPolicy": {"registry": []}},
        (
            "The network policy would shut the bundle's store out: name its addresses in "
            "networkPolicy.registry, or disable networkPolicy."
        ),
    ),
    "a registry without a reference": (
        bundle("registry"),
        (
            "bundle.source is registry: set bundle.registry.reference, such as "
            "oci://registry.example/team/model:1.2.0."
        ),
    ),
    "no claim": (
        bundle("pvc"),
        "bundle.source is pvc: set bundle.pvc.claimName to the claim that holds the bundle.",
    ),
    "no image volume": (
        bundle("volume"),
        "bundle.source is volume: set bundle.volume.reference to the image that holds the bundle.",
    ),
    "no bucket": (
        bundle("s3", digest=DIGEST),
        "bundle.source is s3: set bundle.s3.url, such as s3://models/speech/1.2.0.",
    ),
    "a bucket without a digest": (
        bundle("s3", s3={"url": "s3://models/speech"}),
        (
            "Nothing vouches for what lies in a bucket: set bundle.digest, which "
            "`timbre bundle show --json` prints."
        ),
    ),
    "two sources of tokens": (
        {"tokens": {"existingSecret": "clients", "values": [TOKEN]}},
        "tokens.existingSecret and tokens.values are two sources of one file: take one of them.",
    ),
    "a drain that no autoscaler waits for": (
        {"drainSeconds": 561},
        (
            "drainSeconds and settings.deadline_s keep a pod for more than the 600 s that cluster "
            "autoscalers wait for: shorten one of them."
        ),
    ),
    "bodies that may come as late as their answers": (
        {
            "settings": {"deadline_s": Settings().body_timeout_s},
            "canary": {"settings": {"deadline_s": Settings().body_timeout_s + 0.1}},
        },
        (
            "settings.body_timeout_s, 15 by default, must be below settings.deadline_s, or the "
            "server doesn't start: set both."
        ),
    ),
    "a candidate's bodies that may come as late as their answers": (
        {"canary": {"settings": {"body_timeout_s": Settings().deadline_s}}},
        (
            "canary.settings.body_timeout_s, 15 by default, must be below "
            "canary.settings.deadline_s, or the server doesn't start: set both."
        ),
    ),
    "resources without a CPU limit": (
        {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}},
        "The server takes its threads from the CPU limit: set resources.limits.cpu, or use size.",
    ),
    "a share that nothing gives": (
        {"canary": {"enabled": True, "weight": 10}},
        (
            "canary.weight needs an HTTPRoute, since an Ingress and a Service split nothing: "
            "enable httpRoute, or leave it at 0, where shadow and golden set judge."
        ),
    ),
    "a share that an Ingress cannot give": (
        charts.feature("ingress") | {"canary": {"enabled": True, "weight": 10}},
        (
            "canary.weight needs an HTTPRoute, since an Ingress and a Service split nothing: "
            "enable httpRoute, or leave it at 0, where shadow and golden set judge."
        ),
    ),
    "a canary's claim without a name": (
        {"canary": {"enabled": True, "bundle": {"source": "pvc"}}},
        (
            "canary.bundle.source is pvc: set canary.bundle.pvc.claimName to the claim that holds "
            "the bundle."
        ),
    ),
    "a canary's bucket without a digest": (
        bundle("s3", digest=DIGEST, s3={"url": "s3://models/speech/1"})
        | {"canary": {"enabled": True, "bundle": {"s3": {"url": "s3://models/speech/2"}}}},
        (
            "Nothing vouches for what lies in a bucket: set canary.bundle.digest, which "
            "`timbre bundle show --json` prints."
        ),
    ),
    "a canary's store that the policy shuts out": (
        {
            "canary": {
                "enabled": True,
                "bundle": {"source": "registry", "registry": {"reference": "oci://a.example/b:1"}},
            },
            "networkPolicy": {"registry": []},
        },
        (
            "The network policy would shut the bundle's store out: name its addresses in "
            "networkPolicy.registry, or disable networkPolicy."
        ),
    ),
    "clients kept by the header that doesn't count": (
        {"canary": {"enabled": True, "sticky": {"by": "header", "name": "X-Timbre-Track"}}},
        (
            "canary.sticky.name is the header by which a client asks for a track, whose clips "
            "don't count: choose another name."
        ),
    ),
    "two that make canaries": (
        charts.feature("argo") | {"canary": {"enabled": True}},
        (
            "rollout.engine argo makes canaries itself, of what is upgraded: disable canary, or "
            "take engine helm."
        ),
    ),
    "two that make a route": (
        ROUTE | {"rollout": {"engine": "flagger"}},
        (
            "rollout.engine flagger makes the HTTPRoute itself: disable httpRoute, and give "
            "gatewayRefs and hosts to the Canary of k8s/rollouts/flagger."
        ),
    ),
    "KEDA, of which Flagger makes a copy": (
        {
            "rollout": {"engine": "flagger"},
            "keda": {"enabled": True, "prometheus": {"url": "http://prometheus:9090"}},
        },
        (
            "rollout.engine flagger gives the primary a copy of what scales, in which KEDA's query "
            "would name no metric: enable autoscaling for keda."
        ),
    ),
    "more pods than Flagger says": (
        {"rollout": {"engine": "flagger"}, "replicaCount": 2},
        (
            "rollout.engine flagger says how many pods there are: enable autoscaling, or "
            "leave replicaCount at 1."
        ),
    ),
    "two that say how many pods there are": (
        {"rollout": {"engine": "argo"}, "replicaCount": 3},
        (
            "rollout.engine argo says how many pods there are: enable autoscaling or keda, or "
            "leave replicaCount at 1."
        ),
    ),
    "a label that the engine works by": (
        {"rollout": {"engine": "flagger"}, "podLabels": {"app": "speech"}},
        "commonLabels or podLabels sets app, which the chart sets: choose a name of your own.",
    ),
    "an engine that the policy shuts out": (
        {
            "rollout": {"engine": "flagger"},
            "judge": {"enabled": True},
            "compare": {"golden": {"source": "pvc", "pvc": {"claimName": "golden"}}},
        },
        SHUT_OUT.format("Flagger", "rollouts"),
    ),
    "a judge that Prometheus never hears": (
        {"judge": {"enabled": True}, "compare": {"prometheus": {"url": "http://a:9090"}}},
        SHUT_OUT.format("Prometheus", "prometheus"),
    ),
    "a judge with nothing to look at": (
        {"judge": {"enabled": True}},
        "judge has nothing to look at: set compare.prometheus.url or compare.golden.source.",
    ),
    "a comparison with nothing to look at": (
        {"compare": {"enabled": True}},
        "compare has nothing to look at: set compare.prometheus.url or compare.golden.source.",
    ),
    "a Gateway beside the one of the route": (
        OWN | {"httpRoute": ROUTE["httpRoute"]},
        (
            "gateway is made and has no route, for httpRoute.parentRefs names others: leave one of "
            "them out, or name audio-timbre there too."
        ),
    ),
    "clients from outside that the policy shuts out": (
        {"service": {"type": "LoadBalancer"}},
        (
            "The network policy would shut out who comes by service.type LoadBalancer: give their "
            "addresses as an ipBlock in networkPolicy.clients, or disable networkPolicy."
        ),
    ),
    "a name that YAML takes for something else": (
        {"fullnameOverride": "no"},
        "no is no name to YAML, but a truth value or none: set fullnameOverride to another.",
    ),
    "a golden set that is not sent, and no Prometheus": (
        ROUTE
        | {
            "canary": {"enabled": True, "weight": 10},
            "compare": {"enabled": True, "golden": {"source": "pvc", "pvc": {"claimName": "a"}}},
        },
        (
            "Above a canary.weight of 0 no golden set is sent, and compare and judge have nothing "
            "to look at: set compare.prometheus.url."
        ),
    ),
    "a golden set in no claim": (
        {"compare": {"enabled": True, "golden": {"source": "pvc"}}},
        (
            "compare.golden.source is pvc: set compare.golden.pvc.claimName to the claim that "
            "holds the golden set."
        ),
    ),
    "a golden set in no image": (
        {"compare": {"enabled": True, "golden": {"source": "volume"}}},
        (
            "compare.golden.source is volume: set compare.golden.volume.reference to the image "
            "that holds the golden set."
        ),
    ),
    "a label of the chart's own": (
        {"podLabels": {"track": "canary"}},
        "commonLabels or podLabels sets track, which the chart sets: choose a name of your own.",
    ),
    "a variable of the chart's own": (
        {"extraEnv": [{"name": "TIMBRE_DRAIN_S", "value": "0"}]},
        "extraEnv sets TIMBRE_DRAIN_S, which the chart sets: use the value that stands for it.",
    ),
}


@pytest.mark.parametrize(("values", "sentence"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_one_sentence(values: Values, sentence: str) -> None:
    """It is all that is said, so that each is found alone."""
    said = [line for line in refusal(values).splitlines() if line.startswith("- ")]
    assert said == [f"- {sentence}"]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """Who mends one thing is not told of the next."""
    values = {"ingress": {"enabled": True}, "keda": {"enabled": True}, **bundle("s3")}
    said = [line for line in refusal(values).splitlines() if line.startswith("- ")]
    assert len(said) == 4


def test_both_helms_refuse() -> None:
    """In the same words."""
    [values, sentence] = CONTRADICTIONS["KEDA without Prometheus"]
    assert f"- {sentence}" in refusal(values, helm="helm3").splitlines()


def test_a_release_whose_name_begins_with_a_digit_needs_another() -> None:
    """Helm takes it, and Kubernetes would not take the Service."""
    said = refusal({}, release="1st")
    assert "a letter, and 1st-timbre doesn't: set fullnameOverride." in said
    assert rendered({"fullnameOverride": "first"}, release="1st")


def test_an_image_volume_needs_a_cluster_that_has_them() -> None:
    """From 1.33 on; and no cluster is older than the chart allows."""
    values = charts.feature("bundle-volume")
    assert "needs Kubernetes 1.33 or newer" in refusal(values, kubernetes="1.32.9")
    assert rendered(values, kubernetes="1.33.0")
    golden = charts.feature("compare-volume")
    assert "compare.golden.source volume needs" in refusal(golden, kubernetes="1.32.9")
    assert "incompatible with Kubernetes v1.28" in refusal({}, kubernetes="1.28.15")
    assert rendered(kubernetes="1.29.0")


@pytest.mark.parametrize(
    "values",
    [
        ROUTE | {"networkPolicy": {"enabled": False}},
        {
            "monitoring": {"podMonitor": {"enabled": True}},
            "networkPolicy": {"enabled": False},
        },
        {"autoscaling": {"enabled": True, "demand": {"enabled": True}}},
        {"drainSeconds": 560},
        {"settings": {"body_timeout_s": Settings().deadline_s - 0.1}},
        {"extraEnv": [{"name": "TIMBRE_CACHE", "value": "/cache"}]},
        {"monitoring": {"rules": {"enabled": True}}},
        {"canary": {"weight": 10}},
        {"canary": {"bundle": {"source": "pvc"}}},
        {"podLabels": {"app": "speech", "traffic": "heavy"}},
        {"service": {"type": "LoadBalancer"}, "networkPolicy": {"enabled": False}},
        {
            "service": {"type": "NodePort"},
            "networkPolicy": {"clients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
        },
        charts.feature("ingress") | {"canary": {"enabled": True}},
        charts.feature("ingress") | {"rollout": {"engine": "flagger"}},
    ],
    ids=str,
)
def test_what_only_looks_like_a_contradiction_is_taken(values: Values) -> None:
    """Policies may be somebody else's, and so may what scrapes."""
    assert rendered(values)
