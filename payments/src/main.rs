//! The payments service as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::run::run::<payments::Payments>()
}
