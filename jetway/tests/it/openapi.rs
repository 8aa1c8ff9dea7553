//! The platform as its OpenAPI document describes it, judged by others: a linter, and schemathesis, which makes requests of the document and
//! holds the answers against it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::harness::{Up, data_dir};

/// What every answer is held against. Left out is whether every request that the document does not allow is refused: ProtoJSON takes more than
/// it says, a number for a string of digits and null for what is left out.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,missing_required_header,ignored_auth";

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn peers() -> PathBuf {
    let peers = workspace().join(".jetway/peers");
    assert!(peers.join("openapi/spectral/installed").exists(), "run scripts/peers/openapi first");
    peers
}

fn run(what: &str, command: &mut Command) {
    let output = command.output().expect("the peer runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{what}:\n{}", String::from_utf8_lossy(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_valid_and_the_platform_keeps_to_it() {
    let peers = peers();
    let data = data_dir();
    let up = Up::start(data.path());
    let document = up.rest().get("/openapi.json").await.expect("an answer").body;
    let file = data.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).expect("our own directory");

    let judges = workspace().join("edge/transcoder/tests/peers");
    run(
        "check_openapi.py",
        Command::new(peers.join("openapi/bin/python3")).arg(judges.join("check_openapi.py")).arg(&file),
    );
    run(
        "spectral",
        Command::new(peers.join("bin/node"))
            .arg(peers.join("openapi/spectral/node_modules/@stoplight/spectral-cli/dist/index.js"))
            .args(["lint", "--quiet", "--fail-severity", "warn", "--ruleset"])
            .arg(judges.join("spectral.yaml"))
            .arg(&file),
    );

    for role in ["customer", "admin"] {
        let (email, password) = up.account(role);
        let account = json!({ "email": email, "password": password });
        let tokens = up.rest().post("/api/v1/auth/signin", &account).await.expect("an answer");
        let token = tokens.text("tokens.accessToken");
        run(
            "schemathesis",
            Command::new(peers.join("openapi/bin/python3"))
                .args(["-m", "schemathesis.cli", "run"])
                .arg(&file)
                .args(["--url", &up.url, "--checks", CHECKS, "--header"])
                .arg(format!("Authorization: Bearer {token}"))
                // It ends the session that all other calls are made in.
                .args(["--exclude-path", "/api/v1/auth/signout"])
                .args([
                    "--max-examples",
                    "10",
                    "--seed",
                    "1",
                    "--phases",
                    "examples,coverage,fuzzing",
                    "--no-color",
                ])
                .current_dir(data.path()),
        );
    }
}
