//! The `holm` command.

fn main() -> std::process::ExitCode {
    holm::main()
}
