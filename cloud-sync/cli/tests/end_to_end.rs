//! The way of a new user: `holm new`, `build`, `invoke`, and then a whole fleet in `holm dev` that
//! the other commands speak to.
//!
//! Functions are compiled to WebAssembly here. Where Rust cannot do that (the target is not
//! installed) the test says so and fails only in CI.

#![expect(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const START: Duration = Duration::from_secs(240);

/// A folder with a home of its own.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holm"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("HOLM_CONFIG", self.path("home/config.toml"))
            .env("NO_COLOR", "1")
            // What was compiled once is not compiled again.
            .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("functions"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed and returns its JSON.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Whether Rust can compile functions.
fn can_build() -> bool {
    let rustc = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", "wasm32-unknown-unknown"])
        .output()
        .unwrap();
    let can = Path::new(String::from_utf8_lossy(&rustc.stdout).trim()).is_dir();
    assert!(can || std::env::var_os("CI").is_none(), "rustup target add wasm32-unknown-unknown");
    if !can {
        eprintln!("skipped: rustup target add wasm32-unknown-unknown");
    }
    can
}

#[test]
fn a_new_app_builds_and_runs() {
    if !can_build() {
        return;
    }
    let world = World::new();
    for template in ["counter", "alarm", "schedule"] {
        world.json(&["new", template, "--template", template, "--json"]);
        let built = world.json(&["build", template, "--json"]);
        assert_eq!(built["signed_by"], Value::Null);
        assert!(built["functions"][0]["bytes"].as_u64().unwrap() > 1_000);
        let ran = world.json(&["invoke", template, "--app", template, "--json"]);
        assert_eq!(ran["outcome"], "ok", "{ran:#}");
    }
    world.json(&["keys", "new", "--json"]);
    assert_eq!(world.json(&["build", "counter", "--json"])["signed_by"], "default");
    the_function_of_the_readme_is_one(&world);
    state_lasts_in_a_file(&world);
    a_failing_function_is_exit_code_7(&world);
    let check = Command::new("cargo")
        .args(["test", "-q", "--target-dir"])
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("functions"))
        .current_dir(world.path("alarm"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

/// The function in README.md compiles as it is printed, and does what is said there.
fn the_function_of_the_readme_is_one(world: &World) {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, section) = readme.split_once("## A function\n").unwrap();
    let code: String = section
        .lines()
        .skip_while(|line| line.is_empty())
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line)))
        .collect();
    let lines = code.lines().filter(|line| !line.trim().is_empty()).count();
    assert!((8..=12).contains(&lines), "a ten-line function has {lines} lines");
    world.json(&["new", "hottest", "--json"]);
    std::fs::write(world.path("hottest/src/lib.rs"), code).unwrap();
    let toml = std::fs::read_to_string(world.path("hottest/holm.toml")).unwrap();
    let toml = toml.replace("publish = [", "publish = [\"hottest/+\", ");
    std::fs::write(world.path("hottest/holm.toml"), toml).unwrap();
    for (celsius, hottest) in [("21.5", 21.5), ("20.0", 21.5), ("22.0", 22.0)] {
        let payload = format!("{{\"celsius\": {celsius}}}");
        let words = ["invoke", "hottest", "--app", "hottest", "--state", "hottest.json"];
        let event = ["-t", "sensors/a/temperature", "-d", "a", "-p", &payload, "--json"];
        let ran = world.json(&[&words[..], &event].concat());
        assert_eq!(ran["publishes"][0]["topic"], "hottest/a", "{ran:#}");
        assert_eq!(ran["publishes"][0]["payload"], json!(hottest));
    }
}

fn state_lasts_in_a_file(world: &World) {
    let invoke = |celsius: &str| {
        let payload = format!("{{\"celsius\": {celsius}}}");
        world.json(&[
            "invoke",
            "counter",
            "--app",
            "counter",
            "--no-build",
            "--state",
            "state.json",
            "-t",
            "sensors/a/temperature",
            "-p",
            &payload,
            "-d",
            "a",
            "--json",
        ])
    };
    invoke("21.5");
    let second = invoke("20.0");
    assert_eq!(second["publishes"][0]["topic"], "counter/a");
    assert_eq!(second["publishes"][0]["payload"], json!({ "readings": 2, "highest": 21.5 }));
    let text = std::fs::read_to_string(world.path("state.json")).unwrap();
    assert!(text.contains("\"counter/counter\""), "{text}");
}

fn a_failing_function_is_exit_code_7(world: &World) {
    let output = world.run(&[
        "invoke",
        "counter",
        "--app",
        "counter",
        "--no-build",
        "-t",
        "x",
        "-p",
        "junk",
    ]);
    assert_eq!(output.status.code(), Some(7));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("reject"), "{printed}");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("no trigger of `counter` matches `x`"), "{notes}");
}

/// `holm dev`, stopped when dropped.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_commands_work_with_a_fleet() {
    if !can_build() {
        return;
    }
    let world = World::new();
    world.json(&["new", "hello", "--json"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = world.run(&["dev", "hello", "--port", &port, "--json"]);
    let failure: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert!(failure["error"]["next"].as_str().unwrap().contains("--port"), "{failure}");
    drop(taken);
    let log = std::fs::File::create(world.path("dev.log")).unwrap();
    let dev = world
        .command(&["dev", "hello", "--data", "home", "--port", &port, "--every", "200"])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut dev = Dev(dev);
    let end = Instant::now() + START;
    while !std::fs::read_to_string(world.path("dev.log")).unwrap().contains("hello/press-1 {") {
        let ended = dev.0.try_wait().unwrap();
        let log = std::fs::read_to_string(world.path("dev.log")).unwrap();
        assert!(ended.is_none() && Instant::now() < end, "{log}");
        std::thread::sleep(Duration::from_millis(100));
    }
    fleet_is_shown(&world);
    let broker = format!("mqtt://127.0.0.1:{port}");
    messages_go_and_come(&world, &broker);
    state_is_seen_and_reset(&world);
    dead_letters_are_seen_and_purged(&world, &broker);
    apps_come_and_go(&world);
}

fn fleet_is_shown(world: &World) {
    let fleet = world.json(&["status", "--json"]);
    assert_eq!((&fleet[0]["name"], &fleet[0]["online"]), (&json!("dev"), &json!(true)));
    assert_eq!(fleet[0]["apps"][0]["app"], "hello");
    assert_eq!(world.run(&["status", "nobody"]).status.code(), Some(5));
    let other = world.json(&["gateway", "add", "gw-2", "--json"]);
    assert!(other["token"].as_str().unwrap().starts_with("holm1-"));
    assert_eq!(world.json(&["gateway", "list", "--json"]).as_array().unwrap().len(), 2);
    assert_eq!(world.run(&["gateway", "remove", "gw-2"]).status.code(), Some(2), "not for sure");
    world.json(&["gateway", "remove", "gw-2", "--yes", "--json"]);
    assert_eq!(world.json(&["gateway", "list", "--json"]).as_array().unwrap().len(), 1);
    assert_eq!(world.run(&["gateway", "remove", "gw-2", "--yes"]).status.code(), Some(5));
}

fn messages_go_and_come(world: &World, broker: &str) {
    let mut publish = world.command(&["pub", "-", "-b", broker, "--json", "--message-ids"]);
    let mut child = publish.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: String = (0..50).map(|n| format!("lines/x {{\"n\":{n}}}\n")).collect();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(sent, json!({ "sent": 50, "acked": 50 }));
    for qos in ["0", "1", "2"] {
        assert!(world.run(&["pub", "t", "x", "-b", broker, "-Q", qos]).status.success(), "{qos}");
    }
    world.run(&["pub", "kept", "last words", "-b", broker, "--retain"]);
    let kept = world.run(&["sub", "kept", "-b", broker, "-n", "1", "--for", "20"]);
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "kept last words\n");
    let none = world.run(&["sub", "silence", "-b", broker, "-n", "1", "--for", "1"]);
    assert_eq!(none.status.code(), Some(8));
}

fn state_is_seen_and_reset(world: &World) {
    let with =
        |words: &[&'static str]| [words, &["hello/hello", "-g", "dev", "-d", "press-1"]].concat();
    let list = world.json(&with(&["state", "list", "--json"]));
    assert_eq!(list[0]["key"], "count");
    let export = world.run(&with(&["state", "export", "--out", "exported.json"]));
    assert!(export.status.success());
    let again = world.json(&[
        "invoke",
        "hello",
        "--app",
        "hello",
        "--no-build",
        "--state",
        "exported.json",
        "--event",
        "hello/event.json",
        "--json",
    ]);
    assert!(again["state"][0]["value"]["readings"].as_u64().unwrap() > 1);
    assert_eq!(world.run(&with(&["state", "reset"])).status.code(), Some(2), "without --yes");
    assert!(world.run(&with(&["state", "reset", "--yes"])).status.success());
    let missing = world.run(&["state", "get", "hello/hello", "nokey", "-g", "dev", "-d", "x"]);
    assert_eq!(missing.status.code(), Some(5));
}

fn dead_letters_are_seen_and_purged(world: &World, broker: &str) {
    world.run(&["pub", "sensors/x/temperature", "junk", "-b", broker]);
    let end = Instant::now() + Duration::from_secs(20);
    let event = loop {
        let letters = world.json(&["dead-letters", "list", "-g", "dev", "--json"]);
        if let Some(event) = letters[0]["event"].as_str() {
            break event.to_owned();
        }
        assert!(Instant::now() < end, "no dead letter came");
    };
    let letter = world.json(&["dead-letters", "show", &event, "-g", "dev", "--json"]);
    assert_eq!(letter["payload_text"], "junk");
    assert!(world.run(&["dead-letters", "purge", &event, "-g", "dev", "--yes"]).status.success());
    let gone = world.run(&["dead-letters", "show", &event, "-g", "dev"]);
    assert_eq!(gone.status.code(), Some(5));
}

fn apps_come_and_go(world: &World) {
    // A copy: `holm dev` deploys what changes in its own folder by itself.
    world.json(&["new", "hello", "--into", "copy", "--json"]);
    let toml = world.path("copy/hello/holm.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, text.replace("0.1.0", "0.2.0")).unwrap();
    let built = world.json(&["build", "copy/hello", "--json", "--unsigned"]);
    let bundle = built["bundle"].as_str().unwrap();
    // An unsigned bundle is signed on its way.
    let deployed = world.json(&["deploy", bundle, "--to", "dev", "--wait", "--json"]);
    assert_eq!((&deployed["app"], &deployed["done"]), (&json!("hello"), &json!(true)));
    let back = world.json(&["rollback", "hello", "--to", "dev", "--wait", "--json"]);
    assert_eq!(back["cause"], "rollback");
    let gone = world.json(&["undeploy", "hello", "--to", "dev", "--wait", "--json"]);
    assert_eq!(gone["done"], json!(true));
    let absent = world.run(&["undeploy", "nothing", "--to", "dev"]);
    assert_eq!(absent.status.code(), Some(5));
    assert_eq!(world.run(&["deploy", "hello", "--to", "nobody"]).status.code(), Some(5));
}
