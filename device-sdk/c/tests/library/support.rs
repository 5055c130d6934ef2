//! Compiles C, against the library that a user would link.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// `libholm_device.a` for this computer, in the profile that firmware gets.
static PLAIN: LazyLock<PathBuf> = LazyLock::new(|| library(&["--target-dir"], ""));
/// The same with TLS.
static TLS: LazyLock<PathBuf> =
    LazyLock::new(|| library(&["--features", "tls", "--target-dir"], "tls"));

fn library(words: &[&str], folder: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder in the target");
    let target = target.join(folder);
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--release", "--locked"]).args(words).arg(&target);
    // What cargo tells its tests is not meant for another cargo.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(&*name);
        }
    }
    let status = command.current_dir(ROOT).stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "the library does not build");
    target.join("release/libholm_device.a")
}

/// Programs in a folder of their own.
pub(crate) struct Programs(TempDir);

impl Programs {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    /// Compiles `tests/c/NAME.c`, which finds what lies in the folder before what lies beside it.
    pub(crate) fn linked(&self, name: &str) -> PathBuf {
        self.program(name, name, &PLAIN, &[])
    }

    /// The same with the library that has TLS, and with `TLS` defined.
    pub(crate) fn linked_with_tls(&self, name: &str) -> PathBuf {
        self.program(name, &format!("{name}-tls"), &TLS, &["-DTLS".as_ref()])
    }

    fn program(&self, name: &str, out: &str, library: &Path, more: &[&OsStr]) -> PathBuf {
        let out = self.dir().join(out);
        let source = Path::new(ROOT).join(format!("tests/c/{name}.c"));
        let words = [source.as_os_str(), library.as_os_str(), "-o".as_ref(), out.as_os_str()];
        self.compile(&[more, &words].concat());
        out
    }

    /// Compiles a source of a program for the board of `tests/c/board.c`.
    pub(crate) fn linked_on_board(&self, source: &Path) -> PathBuf {
        let out = source.with_extension("");
        let board = Path::new(ROOT).join("tests/c/board.c");
        let words = [source, &board, &*PLAIN, Path::new("-o"), &out].map(Path::as_os_str);
        self.compile(&words);
        out
    }

    fn compile(&self, words: &[&OsStr]) {
        let mut command = Command::new("cc");
        command.args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-g", "-O1"]);
        command.args(["-Wall", "-Wextra", "-Werror", "-Wstrict-prototypes"]);
        command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        command.arg("-I").arg(self.dir()).arg("-I").arg(Path::new(ROOT).join("include"));
        let output = command.args(words).output().expect("a C compiler `cc`");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}");
    }
}
