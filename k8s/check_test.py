"""Plants one mistake at a time in what the dev overlay builds, and sees the rule for it catch it, and only that rule."""

import copy
import unittest
from pathlib import Path

import check

HERE = Path(__file__).parent


def setUpModule():
    global ITEMS, SECRETS
    ITEMS = check.build(HERE / "overlays/dev")
    SECRETS = check.provided_secrets()


class Rules(unittest.TestCase):
    def find(self, kind, name):
        return next(i for i in self.items if i["kind"] == kind and i["metadata"]["name"] == name)

    def setUp(self):
        self.items = copy.deepcopy(ITEMS)
        self.deployment = self.find("Deployment", "bookings")
        self.pod = self.deployment["spec"]["template"]["spec"]
        self.container = self.pod["containers"][0]

    def test_no_mistake(self):
        self.assertEqual(check.mistakes(self.items, SECRETS), [])

    def refused(self, rule, *words):
        found = list(rule(self.items, SECRETS))
        self.assertTrue(found, "the mistake was not seen")
        for word in words:
            self.assertTrue(any(word in mistake for mistake in found), f"{word} in {found}")
        quiet = [r for r in check.RULES if r not in (rule, check.follows_schema) and list(r(self.items, SECRETS))]
        self.assertEqual(quiet, [], "a mistake is one rule's business")

    def test_an_unknown_field(self):
        self.container["imagePolicy"] = "Always"
        self.refused(check.follows_schema, "Deployment/bookings", "imagePolicy")

    def test_a_field_of_the_wrong_type(self):
        self.deployment["spec"]["replicas"] = "two"
        self.refused(check.follows_schema, "Deployment/bookings")

    def test_an_unknown_kind(self):
        item = {"apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": copy.deepcopy(self.items[0]["metadata"])}
        self.items.append(item)
        self.refused(check.follows_schema, "extensions/v1beta1")

    def test_a_writable_root(self):
        self.container["securityContext"]["readOnlyRootFilesystem"] = False
        self.refused(check.is_restricted, "readOnlyRootFilesystem")

    def test_an_added_capability(self):
        self.container["securityContext"]["capabilities"]["add"] = ["NET_BIND_SERVICE"]
        self.refused(check.is_restricted, "capabilities")

    def test_a_low_uid(self):
        self.container["securityContext"]["runAsUser"] = 999
        self.refused(check.is_restricted, "runAsUser")

    def test_a_namespace_that_enforces_nothing(self):
        del self.find("Namespace", "jetway")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        self.refused(check.is_restricted, "enforce")

    def test_a_mounted_token(self):
        del self.pod["automountServiceAccountToken"]
        self.refused(check.has_no_api_access, "Deployment/bookings")

    def test_a_shared_service_account(self):
        self.pod["serviceAccountName"] = "payments"
        self.refused(check.has_no_api_access, "service account of its own")

    def test_an_image_that_moves(self):
        self.container["image"] = "jetway/bookings:latest"
        self.refused(check.has_pinned_images, "latest")

    def test_a_cpu_limit(self):
        self.container["resources"]["limits"]["cpu"] = "1"
        self.refused(check.has_resources, "CPU")

    def test_memory_that_may_grow(self):
        self.container["resources"]["limits"]["memory"] = "1Gi"
        self.refused(check.has_resources, "memory")

    def test_no_request_for_disk(self):
        del self.container["resources"]["requests"]["ephemeral-storage"]
        self.refused(check.has_resources, "ephemeral-storage")

    def test_a_missing_probe(self):
        del self.container["livenessProbe"]
        self.refused(check.is_probed, "livenessProbe")

    def test_a_probe_that_asks_for_another(self):
        self.container["livenessProbe"]["grpc"]["service"] = "readiness"
        self.refused(check.is_probed, "ask by gRPC for liveness")

    def test_a_probe_of_a_port_nobody_has(self):
        self.container["readinessProbe"]["grpc"]["port"] = 50052 + 1
        self.refused(check.is_probed, "named port")

    def test_a_hasty_liveness_probe(self):
        self.container["livenessProbe"]["failureThreshold"] = 3
        self.refused(check.is_probed, "60 s")

    def test_a_rollout_with_a_gap(self):
        self.deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = 1
        self.refused(check.drains, "maxUnavailable")

    def test_a_grace_period_shorter_than_the_drain(self):
        self.pod["terminationGracePeriodSeconds"] = 30
        self.refused(check.drains, "grace period")

    def test_a_namespace_open_by_default(self):
        self.items.remove(self.find("NetworkPolicy", "default-deny"))
        self.refused(check.denies_by_default, "denies all")

    def test_dns_to_anyone(self):
        del self.find("NetworkPolicy", "dns")["spec"]["egress"][0]["to"][0]["podSelector"]
        found = list(check.denies_by_default(self.items, SECRETS))
        self.assertEqual(set(found), {"NetworkPolicy/dns: DNS must go to kube-dns only"})

    def test_a_call_nobody_makes(self):
        rule = self.find("NetworkPolicy", "edge")["spec"]["egress"][0]
        rule["to"].append({"podSelector": {"matchLabels": {check.NAME: "postgres"}}})
        self.refused(check.allows_the_call_graph_only, "must not allow edge to postgres")

    def test_a_call_that_is_cut(self):
        self.find("NetworkPolicy", "payments")["spec"]["ingress"][0]["from"].pop()
        self.refused(check.allows_the_call_graph_only, "ingress lacks")

    def test_egress_to_the_world(self):
        self.find("NetworkPolicy", "payments")["spec"]["egress"].append(
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}
        )
        self.refused(check.allows_the_call_graph_only, "0.0.0.0/0")

    def test_one_virtual_address_for_grpc(self):
        del self.find("Service", "bookings")["spec"]["clusterIP"]
        self.refused(check.has_sound_services, "headless")

    def test_a_service_of_a_port_nobody_has(self):
        self.find("Service", "bookings")["spec"]["ports"][0]["targetPort"] = "web"
        self.refused(check.has_sound_services, "targetPort web")

    def test_a_node_port(self):
        self.find("Service", "edge")["spec"]["type"] = "NodePort"
        self.refused(check.has_sound_services, "ClusterIP")

    def test_a_path_of_the_host(self):
        self.pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
        self.refused(check.has_sound_services, "path of the host")

    def test_a_temporary_directory_without_end(self):
        next(v for v in self.pod["volumes"] if v["name"] == "tmp")["emptyDir"] = {}
        self.refused(check.has_sound_services, "sizeLimit")

    def test_a_secret_nobody_makes(self):
        self.container["env"][0]["valueFrom"]["secretKeyRef"]["name"] = "bookings-db"
        self.refused(check.refers_to_what_exists, "no Secret bookings-db")

    def test_a_key_that_a_secret_does_not_have(self):
        self.container["env"][0]["valueFrom"]["secretKeyRef"]["key"] = "uri"
        self.refused(check.refers_to_what_exists, "has no uri")

    def test_a_configmap_nobody_makes(self):
        self.container["envFrom"][0]["configMapRef"]["name"] = "bookings-settings"
        self.refused(check.refers_to_what_exists, "no ConfigMap bookings-settings")

    def test_a_secret_in_the_repository(self):
        metadata = {**copy.deepcopy(self.deployment["metadata"]), "name": "bookings-database"}
        self.items.append({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"url": "x"}})
        self.refused(check.refers_to_what_exists, "must not be in the repository")

    def test_a_missing_label(self):
        del self.deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        self.refused(check.is_labelled, "app.kubernetes.io/component")

    def test_a_simulated_acquirer_that_payments_takes_for_a_real_one(self):
        settings = next(i for i in self.items if i["metadata"]["name"].startswith("payments-settings"))
        del settings["data"]["JETWAY_PAYMENTS_SIMULATOR"]
        self.refused(check.knows_whether_the_acquirer_is_simulated, "JETWAY_PAYMENTS_SIMULATOR must be true")


if __name__ == "__main__":
    unittest.main()
