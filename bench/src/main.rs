//! The `natterjack-bench` program: only the door, everything else is the library beside it.
//!
//! What a server spends is read from `/proc`, so the program does its work on Linux alone; elsewhere it
//! builds, so that the workspace does, and says so.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    natterjack_bench::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "natterjack-bench reads processor time and memory from /proc: it needs Linux"
    );
    std::process::ExitCode::FAILURE
}
