//! The gateway as a process of its own.

use std::process::ExitCode;

/// The HTTP libraries make many small allocations for each request, which this allocator serves faster than the system's. It is told to ask for no huge
/// pages, which would keep memory that is not in use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mesh::run::run::<edge::Edge>()
}
