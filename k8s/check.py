"""Builds overlays and checks what they would apply: schemas first, then the rules of this project, one function each.

A rule takes all objects of one overlay and yields a sentence for each thing wrong. `check_test.py` plants a mistake for
every rule and sees it caught.
"""

import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

# The oldest API that has all we use (`preStop.sleep` is stable since 1.34), and the newest known.
KUBERNETES = ("1.34.0", "1.37.0")

OURS = "jetway/"
MINIMUM_UID = 10_000

# Who may call whom, and on which port. What DNS needs is a rule of its own.
CALLS = {
    ("gateway", "edge", 8080),
    ("edge", "identity", 50051),
    ("edge", "bookings", 50052),
    ("edge", "payments", 50053),
    ("bookings", "identity", 50051),
    ("bookings", "payments", 50053),
    ("payments", "identity", 50051),
    ("payments", "acquirer", 50060),
    ("identity", "postgres", 5432),
    ("bookings", "postgres", 5432),
    ("payments", "postgres", 5432),
    ("acquirer", "postgres", 5432),
}

NAME = "app.kubernetes.io/name"
LABELS = {f"app.kubernetes.io/{key}" for key in ("name", "instance", "version", "part-of", "component", "managed-by")}


def build(overlay):
    """The objects of an overlay; a warning of the builder is an error."""
    run = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True)
    if run.returncode != 0 or run.stderr:
        raise SystemExit(f"{overlay}: {run.stderr.strip()}")
    return [item for item in yaml.safe_load_all(run.stdout) if item]


def provided_secrets():
    """What `dev-secrets` makes: the keys of each Secret, by its name."""
    script = Path(__file__).with_name("dev-secrets")
    run = subprocess.run([script], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"{script}: {run.stderr.strip()}")
    made = [item for item in yaml.safe_load_all(run.stdout) if item]
    return {item["metadata"]["name"]: set(item["data"]) for item in made}


def label(item):
    return f"{item['kind']}/{item['metadata']['name']}"


def of_kind(items, *kinds):
    return [item for item in items if item["kind"] in kinds]


def workloads(items):
    """Each thing that makes pods, with the specification of those pods."""
    for item in of_kind(items, "Deployment", "StatefulSet", "DaemonSet", "Job"):
        yield item, item["spec"]["template"]["spec"]


def containers(items):
    """Each container, with a name for messages and the pod it is in."""
    for item, pod in workloads(items):
        for container in pod.get("initContainers", []) + pod["containers"]:
            yield f"{label(item)} {container['name']}", container, pod


def follows_schema(items, _secrets):
    for version in KUBERNETES:
        for item in items:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                path = ".".join(map(str, error.path))
                yield f"{label(item)}: {path or 'top level'}: {error.message[:300]} (Kubernetes {version})"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{label(item)}: {error.message}"


def is_restricted(items, _secrets):
    for namespace in of_kind(items, "Namespace"):
        for mode in ("enforce", "warn", "audit"):
            if namespace["metadata"].get("labels", {}).get(f"pod-security.kubernetes.io/{mode}") != "restricted":
                yield f"{label(namespace)}: pod-security.kubernetes.io/{mode} must be restricted"
    for name, container, pod in containers(items):
        context = container.get("securityContext", {})
        wanted = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for key, value in wanted.items():
            if context.get(key) != value:
                yield f"{name}: securityContext.{key} must be {value}"
        if context.get("privileged"):
            yield f"{name}: securityContext.privileged must not be set"
        user = context.get("runAsUser", pod.get("securityContext", {}).get("runAsUser", 0))
        if user < MINIMUM_UID:
            yield f"{name}: runAsUser must be {MINIMUM_UID} or more"


def has_no_api_access(items, _secrets):
    owners = {}
    for account in of_kind(items, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{label(account)}: automountServiceAccountToken must be false"
    for item, pod in workloads(items):
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{label(item)}: automountServiceAccountToken must be false"
        account = pod.get("serviceAccountName", "default")
        if account == "default" or owners.setdefault(account, label(item)) != label(item):
            yield f"{label(item)}: must have a service account of its own"
    for role in of_kind(items, "Role", "ClusterRole"):
        if any("*" in rule.get(key, []) for rule in role.get("rules", []) for key in ("verbs", "resources", "apiGroups")):
            yield f"{label(role)}: must not grant *"


def has_pinned_images(items, _secrets):
    for name, container, _pod in containers(items):
        image = container["image"]
        tag = image.rpartition("/")[2].partition(":")[2]
        if not tag or tag == "latest":
            yield f"{name}: {image} must have a tag, and not latest"
        if container.get("imagePullPolicy") != "IfNotPresent":
            yield f"{name}: imagePullPolicy must be IfNotPresent"


def has_resources(items, _secrets):
    for name, container, _pod in containers(items):
        requests = container.get("resources", {}).get("requests", {})
        limits = container.get("resources", {}).get("limits", {})
        for resource in ("cpu", "memory", "ephemeral-storage"):
            if resource not in requests:
                yield f"{name}: must request {resource}"
        if limits.get("memory") != requests.get("memory"):
            yield f"{name}: the memory limit must equal the request"
        if "cpu" in limits:
            yield f"{name}: must have no CPU limit"


def is_probed(items, _secrets):
    for item, pod in workloads(items):
        if item["kind"] == "Job":
            continue
        for container in pod["containers"]:
            yield from probe_mistakes(f"{label(item)} {container['name']}", container)


def probe_mistakes(name, container):
    ports = {port["containerPort"] for port in container.get("ports", []) if port.get("name")}
    for kind in ("startup", "liveness", "readiness"):
        probe = container.get(f"{kind}Probe")
        if probe is None:
            yield f"{name}: must have a {kind}Probe"
            continue
        if probe.get("timeoutSeconds", 1) < 2:
            yield f"{name}: the {kind}Probe must wait 2 s or more"
        patience = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        if kind != "readiness" and patience < 60:
            yield f"{name}: the {kind}Probe must bear 60 s of failure"
        if container["image"].startswith(OURS):
            grpc = probe.get("grpc", {})
            if grpc.get("service") != kind:
                yield f"{name}: the {kind}Probe must ask by gRPC for {kind}"
            if grpc.get("port") not in ports:
                yield f"{name}: the {kind}Probe must ask a named port"


def drains(items, _secrets):
    for item in of_kind(items, "Deployment"):
        name, spec, pod = label(item), item["spec"], item["spec"]["template"]["spec"]
        rolling = spec.get("strategy", {}).get("rollingUpdate", {})
        if rolling.get("maxUnavailable") != 0 or rolling.get("maxSurge", 0) == 0:
            yield f"{name}: must roll with maxUnavailable 0 and maxSurge 1 or more"
        if spec.get("minReadySeconds", 0) < 5 or "progressDeadlineSeconds" not in spec:
            yield f"{name}: must have minReadySeconds of 5 or more and progressDeadlineSeconds"
        if spec.get("revisionHistoryLimit", 10) > 5:
            yield f"{name}: revisionHistoryLimit must be 5 or less"
        for container in pod["containers"]:
            sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            # The service's own drain is 2 s unready, 25 s for calls in flight, 3 s for telemetry; and 5 s to spare.
            if sleep < 5 or pod.get("terminationGracePeriodSeconds", 30) < sleep + 35:
                yield f"{name}: preStop must sleep 5 s or more, and the grace period leave 35 s after it"


def denies_by_default(items, _secrets):
    denied = {
        item["metadata"]["namespace"]
        for item in of_kind(items, "NetworkPolicy")
        if item["spec"]["podSelector"] == {}
        and set(item["spec"].get("policyTypes", [])) == {"Ingress", "Egress"}
        and not item["spec"].get("ingress")
        and not item["spec"].get("egress")
    }
    for namespace in of_kind(items, "Namespace"):
        if namespace["metadata"]["name"] not in denied:
            yield f"{label(namespace)}: must have a NetworkPolicy that denies all ingress and egress"
    for item in of_kind(items, "NetworkPolicy"):
        for rule in item["spec"].get("egress") or []:
            if not rule.get("to") or not rule.get("ports"):
                yield f"{label(item)}: an egress rule must say to whom and on which port"
            for port in rule.get("ports", []):
                if port.get("port") == 53 and not all(is_resolver(peer) for peer in rule.get("to", [])):
                    yield f"{label(item)}: DNS must go to kube-dns only"
        for rule in item["spec"].get("ingress") or []:
            if not rule.get("from") or not rule.get("ports"):
                yield f"{label(item)}: an ingress rule must say from whom and on which port"


def is_resolver(peer):
    return peer == {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }


def allows_the_call_graph_only(items, _secrets):
    out, into = set(), set()
    for item in of_kind(items, "NetworkPolicy"):
        spec = item["spec"]
        selected = selected_names(items, spec["podSelector"])
        for rule in spec.get("egress") or []:
            for peer in rule.get("to", []):
                if not is_resolver(peer):
                    out |= {
                        (name, callee, port["port"])
                        for name in selected
                        for callee in peer_names(items, peer)
                        for port in rule.get("ports", [])
                    }
        for rule in spec.get("ingress") or []:
            for peer in rule.get("from", []):
                into |= {
                    (caller, name, port_number(items, name, port["port"]))
                    for name in selected
                    for caller in peer_names(items, peer)
                    for port in rule.get("ports", [])
                }
    inside = {call for call in CALLS if call[0] != "gateway"}
    for direction, seen, wanted in (("egress", out, inside), ("ingress", into, CALLS)):
        for caller, callee, port in sorted(seen ^ wanted, key=str):
            fault = "lacks" if (caller, callee, port) in wanted else "must not allow"
            yield f"NetworkPolicy: {direction} {fault} {caller} to {callee}:{port}"


def selected_names(items, selector):
    """The `app.kubernetes.io/name` of every workload that a pod selector takes."""
    names = set()
    for item, _pod in workloads(items):
        labels = item["spec"]["template"]["metadata"]["labels"]
        equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
        among = all(
            expression["operator"] == "In" and labels.get(expression["key"]) in expression["values"]
            for expression in selector.get("matchExpressions", [])
        )
        if equal and among:
            names.add(labels[NAME])
    return names


def peer_names(items, peer):
    if set(peer) == {"podSelector"}:
        return selected_names(items, peer["podSelector"]) or {f"nobody matching {peer['podSelector']}"}
    if peer == {"namespaceSelector": {"matchLabels": {"jetway/gateway": "true"}}}:
        return {"gateway"}
    return {str(peer)}


def port_number(items, workload, port):
    """A policy's port as a number, where it is named after a container's."""
    for item, pod in workloads(items):
        if item["spec"]["template"]["metadata"]["labels"][NAME] == workload:
            for container in pod["containers"]:
                for declared in container.get("ports", []):
                    if port in (declared.get("name"), declared["containerPort"]):
                        return declared["containerPort"]
    return port


def has_sound_services(items, _secrets):
    for service in of_kind(items, "Service"):
        name, spec = label(service), service["spec"]
        if spec.get("type", "ClusterIP") != "ClusterIP":
            yield f"{name}: must be of type ClusterIP"
        behind = [
            pod
            for item, pod in workloads(items)
            if spec["selector"].items() <= item["spec"]["template"]["metadata"]["labels"].items()
        ]
        if len(behind) != 1:
            yield f"{name}: must select the pods of one workload, not of {len(behind)}"
        declared = {port.get("name") for pod in behind for container in pod["containers"] for port in container["ports"]}
        for port in spec["ports"]:
            if not port.get("name") or not port.get("appProtocol"):
                yield f"{name}: each port must have a name and an appProtocol"
            if port.get("targetPort") not in declared:
                yield f"{name}: targetPort {port.get('targetPort')} must be a container's named port"
            if port.get("name") == "grpc" and spec.get("clusterIP") != "None":
                yield f"{name}: a gRPC service must be headless"
    for item, pod in workloads(items):
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{label(item)}: must not share the host's namespaces"
        for volume in pod.get("volumes", []):
            if "hostPath" in volume:
                yield f"{label(item)}: must not mount a path of the host"
            if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
                yield f"{label(item)}: emptyDir {volume['name']} must have a sizeLimit"
    for name, container, _pod in containers(items):
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name}: must not use a port of the host"


def refers_to_what_exists(items, secrets):
    maps = {item["metadata"]["name"]: set(item.get("data", {})) for item in of_kind(items, "ConfigMap")}
    accounts = {item["metadata"]["name"] for item in of_kind(items, "ServiceAccount")}
    for secret in of_kind(items, "Secret"):
        yield f"{label(secret)}: a Secret must not be in the repository"
    for item, pod in workloads(items):
        if pod.get("serviceAccountName") not in accounts:
            yield f"{label(item)}: no ServiceAccount {pod.get('serviceAccountName')}"
        mounted = {volume["name"] for volume in pod.get("volumes", [])}
        mounted |= {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
        for container in pod.get("initContainers", []) + pod["containers"]:
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in mounted:
                    yield f"{label(item)}: no volume {mount['name']}"
        for kind, name, keys in references(pod):
            known = maps if kind == "ConfigMap" else secrets
            if name not in known:
                yield f"{label(item)}: no {kind} {name}"
            elif not keys <= known[name]:
                yield f"{label(item)}: {kind} {name} has no {', '.join(sorted(keys - known[name]))}"


def references(pod):
    """Each ConfigMap and Secret that a pod names, with the keys it needs of it."""
    for volume in pod.get("volumes", []):
        for kind, field, key in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
            if field in volume:
                yield kind, volume[field][key], {entry["key"] for entry in volume[field].get("items", [])}
    for container in pod.get("initContainers", []) + pod["containers"]:
        for source in container.get("envFrom", []):
            for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if field in source:
                    yield kind, source[field]["name"], set()
        for variable in container.get("env", []):
            for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                if field in variable.get("valueFrom", {}):
                    reference = variable["valueFrom"][field]
                    yield kind, reference["name"], {reference["key"]}


def is_labelled(items, _secrets):
    for item in items:
        missing = LABELS - set(item["metadata"].get("labels", {}))
        if missing:
            yield f"{label(item)}: lacks the labels {', '.join(sorted(missing))}"
    for item, _pod in workloads(items):
        labels = item["spec"]["template"]["metadata"]["labels"]
        if not item["spec"].get("selector", {}).get("matchLabels", {}).items() <= labels.items():
            yield f"{label(item)}: its selector must match its own pods"
        if not LABELS <= set(labels):
            yield f"{label(item)}: its pods lack labels"


def knows_whether_the_acquirer_is_simulated(items, _secrets):
    simulated = any(item["metadata"]["name"] == "acquirer" for item in of_kind(items, "Deployment"))
    for settings in of_kind(items, "ConfigMap"):
        if settings["metadata"]["name"].startswith("payments-settings"):
            told = settings["data"].get("JETWAY_PAYMENTS_SIMULATOR", "false")
            if told != str(simulated).lower():
                yield f"{label(settings)}: JETWAY_PAYMENTS_SIMULATOR must be {str(simulated).lower()}"


RULES = (
    follows_schema,
    is_restricted,
    has_no_api_access,
    has_pinned_images,
    has_resources,
    is_probed,
    drains,
    denies_by_default,
    allows_the_call_graph_only,
    has_sound_services,
    refers_to_what_exists,
    is_labelled,
    knows_whether_the_acquirer_is_simulated,
)


def mistakes(items, secrets, rules=RULES):
    return [mistake for rule in rules for mistake in rule(items, secrets)]


def main(overlays):
    if not overlays:
        raise SystemExit("usage: check.py OVERLAY...")
    secrets = provided_secrets()
    wrong = 0
    for overlay in overlays:
        items = build(overlay)
        found = mistakes(items, secrets)
        for mistake in found:
            print(f"{overlay}: {mistake}", file=sys.stderr)
        print(f"{overlay}: {len(items)} objects, {len(RULES)} rules, {len(found)} mistakes")
        wrong += len(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
