//! The build itself: what it refuses, and what the table that it makes says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use proto::policy::{Idempotency, Method, Rate, RequestId, TABLE};

const FLIGHTS: &str = "jetway/bookings/v1/flights.proto";

#[test]
fn a_method_without_a_policy_ends_the_build_and_is_named() {
    let refused = build_with(|source| {
        source.replacen(
            "service SeatService {",
            "service SeatService {\n  // Sells a seat to anybody.\n  rpc SellSeat(GetSeatMapRequest) returns (SeatMap);\n",
            1,
        )
    });
    assert!(!refused.status.success(), "the build went through");
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("jetway.bookings.v1.SeatService.SellSeat"), "{error}");
    assert!(error.contains("jetway.mesh.v1.policy"), "{error}");
}

#[test]
fn a_policy_that_admits_nobody_in_particular_is_no_policy() {
    let refused = build_with(|source| {
        source.replacen(
            "access: { public: true } criticality: SHEDDABLE_PLUS };",
            "criticality: SHEDDABLE_PLUS };",
            1,
        )
    });
    assert!(!refused.status.success(), "the build went through");
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("jetway.bookings.v1.FlightService.GetFlight"), "{error}");
}

#[test]
fn a_validation_rule_that_nobody_enforces_ends_the_build() {
    let refused = build_with(|source| {
        source.replacen(
            "(buf.validate.field).int32 = { gte: 0 lte: 9 }",
            "(buf.validate.field).int32 = { gte: 0 lt: 10 }",
            1,
        )
    });
    assert!(!refused.status.success(), "the build went through");
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("ListFlightsRequest.travellers") && error.contains("Int32Rules.lt"), "{error}");
}

#[test]
fn the_protos_as_they_stand_pass() {
    let passed = build_with(str::to_owned);
    assert!(passed.status.success(), "{}", String::from_utf8_lossy(&passed.stderr));
}

#[test]
fn the_table_says_what_the_protos_say() {
    let hold = Method::of("/jetway.bookings.v1.HoldService/CreateHold").expect("CreateHold is in the table");
    assert!(hold.access.signed_in && !hold.access.public && hold.access.workloads.is_empty());
    assert_eq!(
        (hold.request_id, hold.idempotency, hold.max_request_bytes),
        (RequestId::Required, Idempotency::Unknown, 16_384)
    );

    let sign_in =
        Method::of("/jetway.identity.v1.AuthenticationService/SignIn").expect("SignIn is in the table");
    assert!(sign_in.access.public);
    assert_eq!(
        (sign_in.rate, sign_in.service(), sign_in.name()),
        (Rate::Credentials, "jetway.identity.v1.AuthenticationService", "SignIn")
    );

    let capture =
        Method::of("/jetway.payments.v1.PaymentIntentService/CapturePaymentIntent").expect("in the table");
    assert_eq!(capture.access.workloads, ["bookings"]);
    assert_eq!(Method::of("/jetway.bookings.v1.HoldService/Nothing"), None);
}

/// Browsers send GET along with cookies whichever page asks for it, so the gateway asks for no proof of the page there.
#[test]
fn no_get_changes_anything() {
    let pool = proto::descriptor_pool();
    let http = pool.get_extension_by_name("google.api.http").expect("the option");
    let mut gets = 0;
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let options = method.options();
        let rule = options.get_extension(&http);
        let rule = rule.as_message().expect("a rule");
        let more = rule.get_field_by_name("additional_bindings").expect("a field");
        let more = more.as_list().expect("a list").iter().filter_map(prost_reflect::Value::as_message);
        if !std::iter::once(rule).chain(more).any(|rule| rule.has_field_by_name("get")) {
            continue;
        }
        gets += 1;
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let policy = Method::of(&path).expect("in the table");
        assert_eq!(policy.idempotency, Idempotency::NoSideEffects, "{path}");
    }
    assert!(gets > 10, "only {gets} found");
}

#[test]
fn every_method_of_ours_is_in_the_table_once() {
    let mut methods: Vec<String> = proto::descriptor_pool()
        .services()
        .filter(|service| service.package_name().starts_with("jetway."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
        .collect();
    methods.sort();
    assert_eq!(TABLE.iter().map(|method| method.path).collect::<Vec<_>>(), methods);
    assert!(methods.len() > 40, "{} methods", methods.len());
}

#[test]
fn messages_with_secrets_show_none_of_them() {
    let secret = "correct horse battery staple";
    let request = proto::identity::v1::SignInRequest {
        email: "a@jetway.example".to_owned(),
        password: secret.to_owned(),
        ..Default::default()
    };
    assert_eq!(format!("{request:?}"), "SignInRequest { [redacted] }");
}

/// Runs the crate's own build script on a copy of the protos in which one file was changed.
fn build_with(change: impl FnOnce(&str) -> String) -> Output {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for folder in ["jetway", "third_party"] {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &dir.path().join(folder));
    }
    let file = dir.path().join(FLIGHTS);
    let before = fs::read_to_string(&file).expect("the file is there");
    fs::write(&file, change(&before)).expect("the copy can be written");
    let out = dir.path().join("out");
    fs::create_dir(&out).expect("a directory for the output");
    Command::new(build_script())
        .current_dir(dir.path())
        .env("OUT_DIR", out)
        .output()
        .expect("the build script runs")
}

/// The newest compiled build script of this crate.
fn build_script() -> PathBuf {
    let builds = Path::new(env!("OUT_DIR")).ancestors().nth(2).expect("OUT_DIR is build/proto-…/out");
    fs::read_dir(builds)
        .expect("the directory of build scripts")
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("proto-"))
        .map(|entry| entry.path().join("build-script-build"))
        .filter(|script| script.exists())
        .max_by_key(|script| script.metadata().and_then(|metadata| metadata.modified()).ok())
        .expect("cargo compiled the build script")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").filter_map(Result::ok) {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
