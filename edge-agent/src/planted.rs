//! `edge-agent` with bugs planted on purpose: only `cargo xtask demo --plant` builds it.

#[path = "main.rs"]
mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
