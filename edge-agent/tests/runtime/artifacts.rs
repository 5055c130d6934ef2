//! Compiling in a child, and compiled code that is kept.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edge_agent::runtime::{
    BuildError, BuildOptions, CompileError, Compiler, EngineSettings, PrepareError, Runtime,
    build_function, componentize,
};

use super::harness::{component, functions_dir, outputs, profile, run};

fn agent() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_edge-agent"))
}

/// A compiler that cannot: what it is asked for must come from the cache.
fn no_compiler() -> Compiler {
    Compiler::child("/bin/false".into())
}

fn settings() -> EngineSettings {
    EngineSettings { slots: 1, ..EngineSettings::default() }
}

fn prepare(dir: &Path, compiler: Compiler) -> Result<(), PrepareError> {
    let runtime = Runtime::new(settings(), compiler, Some(dir)).unwrap();
    let prepared = runtime.prepare(&component("echo"), profile("echo"))?;
    assert_eq!(outputs(run(&prepared, "t", b"x")).publishes[0].payload, "x");
    Ok(())
}

fn artifacts(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|ext| ext == "cwasm")).collect()
}

/// A cache with the echo function in it, and its one file.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), Compiler::child(agent())).unwrap();
    let file = artifacts(dir.path()).pop().unwrap();
    (dir, file)
}

#[test]
fn a_child_compiles_once_and_the_cache_serves_ever_after() {
    let (dir, file) = filled();
    prepare(dir.path(), no_compiler()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&dir.path().join("artifact.key")), 0o600);
    let inner = tempfile::tempdir().unwrap();
    let made = inner.path().join("artifacts");
    prepare(&made, Compiler::InProcess).unwrap();
    assert_eq!(mode(&made), 0o700);
}

#[test]
fn a_damaged_artifact_is_refused_and_compiled_again() {
    let (dir, file) = filled();
    let good = fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let damaged = [
        flipped(0),
        flipped(31),
        flipped(32),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
        good[..good.len() - 1].to_vec(),
        good[..31].to_vec(),
        Vec::new(),
        [&good[..], &[0]].concat(),
    ];
    for bytes in damaged {
        fs::write(&file, bytes).unwrap();
        let Err(error) = prepare(dir.path(), no_compiler()) else { panic!("ran a damaged file") };
        assert!(matches!(error, PrepareError::Compile(CompileError::Io(_))), "{error}");
    }
    prepare(dir.path(), Compiler::child(agent())).unwrap();
    prepare(dir.path(), no_compiler()).unwrap();
}

#[test]
fn an_artifact_of_another_component_or_gateway_is_refused() {
    let (dir, file) = filled();
    let runtime = Runtime::new(settings(), Compiler::InProcess, Some(dir.path())).unwrap();
    runtime.prepare(&component("counter"), profile("counter")).unwrap();
    let other = artifacts(dir.path()).into_iter().find(|path| *path != file).unwrap();
    let good = fs::read(&file).unwrap();
    fs::copy(other, &file).unwrap();
    assert!(prepare(dir.path(), no_compiler()).is_err());
    fs::write(&file, good).unwrap();
    prepare(dir.path(), no_compiler()).unwrap();
    let (_elsewhere, foreign) = filled();
    fs::copy(foreign, &file).unwrap();
    assert!(prepare(dir.path(), no_compiler()).is_err());
}

#[test]
fn a_key_that_others_could_read_is_replaced() {
    let (dir, _) = filled();
    let key = dir.path().join("artifact.key");
    let before = fs::read(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(prepare(dir.path(), no_compiler()).is_err());
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
    fs::write(&key, b"short").unwrap();
    prepare(dir.path(), Compiler::InProcess).unwrap();
    assert_eq!(fs::read(&key).unwrap().len(), 32);
}

#[test]
fn another_engine_does_not_find_the_artifact() {
    let (dir, _) = filled();
    let larger = EngineSettings { function_memory_bytes_max: 32 << 20, ..settings() };
    let runtime = Runtime::new(larger, no_compiler(), Some(dir.path())).unwrap();
    assert!(runtime.prepare(&component("echo"), profile("echo")).is_err());
}

#[test]
fn what_is_not_kept_goes() {
    let (dir, file) = filled();
    let runtime = Runtime::new(settings(), Compiler::InProcess, Some(dir.path())).unwrap();
    let digest = |bytes: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        edge_core::id::Digest(digest.as_ref().try_into().unwrap())
    };
    let cache = runtime.cache().unwrap();
    cache.keep_only(&[digest(&component("echo"))].into()).unwrap();
    assert_eq!(artifacts(dir.path()), [file]);
    cache.keep_only(&[digest(b"other")].into()).unwrap();
    assert!(artifacts(dir.path()).is_empty());
}

fn compile_with(compiler: Compiler) -> CompileError {
    let runtime = Runtime::new(settings(), compiler, None).unwrap();
    match runtime.prepare(&component("rogue"), profile("rogue")) {
        Err(PrepareError::Compile(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("compiled"),
    }
}

#[test]
fn the_child_is_limited_in_time_and_memory() {
    let child = |memory_bytes_max: u64, time_max: Duration| Compiler::Child {
        exe: agent(),
        memory_bytes_max,
        time_max,
    };
    let error = compile_with(child(512 << 20, Duration::ZERO));
    assert!(matches!(error, CompileError::Time { .. }), "{error}");
    let error = compile_with(child(1 << 20, Duration::from_secs(60)));
    assert!(matches!(error, CompileError::Memory { .. }), "{error}");
    assert!(error.to_string().contains("`compile_memory` in [limits]"), "{error}");
}

#[test]
fn the_child_tells_what_does_not_compile() {
    let runtime = Runtime::new(settings(), Compiler::child(agent()), None).unwrap();
    let good = component("echo");
    let cut = &good[..good.len() - 10];
    let Err(error) = runtime.prepare(cut, profile("echo")) else { panic!("prepared") };
    let PrepareError::Compile(CompileError::Invalid(text)) = &error else { panic!("{error}") };
    assert!(text.contains("unexpected end"), "{text}");
}

#[test]
fn the_child_is_not_for_people() {
    let output = Command::new(agent()).arg("compile").output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("for the agent itself"), "{said}");
}

#[test]
fn a_module_that_is_no_function_is_not_made_a_component() {
    let error = componentize(b"\0asm\x01\0\0\0").unwrap_err().to_string();
    assert!(error.contains("`function_sdk::export!(handle);` is missing"), "{error}");
    let options = BuildOptions {
        example: Some("wasi".to_owned()),
        target_dir: Some(functions_dir().join("target")),
        ..BuildOptions::default()
    };
    let error = build_function(&functions_dir(), &options).unwrap_err();
    assert!(matches!(error, BuildError::Componentize(_)), "{error}");
    assert!(error.to_string().contains("wasi_snapshot_preview1"), "{error}");
}

/// Re-runs the ignored test below under a bound on address space.
#[test]
fn little_address_space_is_enough() {
    let status = Command::new("sh")
        .args(["-c", "ulimit -v 700000; exec \"$0\" --exact --ignored --quiet \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("artifacts::runs_in_little_address_space")
        .env("RUST_TEST_THREADS", "1")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
#[ignore = "run by the test above, under `ulimit -v`"]
fn runs_in_little_address_space() {
    let settings = EngineSettings { slots: 8, ..EngineSettings::default() };
    let runtime = Runtime::new(settings, Compiler::InProcess, None).unwrap();
    let prepared = runtime.prepare(&component("echo"), profile("echo")).unwrap();
    outputs(run(&prepared, "t", b"x"));
}
