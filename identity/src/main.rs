//! The `identity` service, and `identity admin create` for the first admin.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "admin") {
        identity::admin::run()
    } else {
        mesh::run::run::<identity::Identity>()
    }
}
