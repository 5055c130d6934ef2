//! Packing, of programs that are none: what users get, and that it is the same every time.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use sync_protocol::{Digest, SigningKey};

use super::release::{Content, Release};
use super::{deb, make, sums};
use crate::command::project_root;
use crate::targets::list::{TARGETS, Target};

/// A moment in 2024.
const EPOCH: u64 = 1_717_171_717;
/// Most that `systemd-analyze security` may say of the unit, in tenths.
const EXPOSURE_MAX: &str = "20";

fn contents() -> Vec<(&'static Target, Content)> {
    let packed = TARGETS.iter().filter(|target| !target.deb.is_empty());
    let content = |target: &Target| Content {
        agent: format!("#!/bin/sh\necho {}\n", target.triple).into_bytes(),
        sbom: b"{}\n".to_vec(),
    };
    packed.map(|target| (target, content(target))).collect()
}

fn release(dir: &Path, key: Option<&SigningKey>) -> Release {
    let out = dir.join("out");
    std::fs::create_dir_all(&out).unwrap();
    let key = key.map(|key| SigningKey::from_pem(&key.to_pem()).unwrap());
    Release { version: "1.2.3".into(), epoch: EPOCH, out, scratch: dir.join("scratch"), key }
}

fn made(dir: &Path, key: Option<&SigningKey>) -> BTreeMap<String, Vec<u8>> {
    let release = release(dir, key);
    make(&release, &contents()).unwrap();
    sums::write_sums(&release).unwrap();
    let files = std::fs::read_dir(&release.out).unwrap().map(Result::unwrap);
    files
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect()
}

/// Whether a tool is here; in CI it has to be.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is missing");
    if !found {
        eprintln!("skipped: {program} is missing");
    }
    found
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn two_makes_of_a_release_are_the_same_bytes() {
    if !has("dpkg-deb") {
        return;
    }
    let key = SigningKey::generate().unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = made(one.path(), Some(&key));
    // Files of the second have other times, wherever a tool looks at them.
    std::thread::sleep(Duration::from_millis(1_100));
    let second = made(two.path(), Some(&key));
    let names: Vec<_> = first.keys().collect();
    assert_eq!(names, second.keys().collect::<Vec<_>>());
    for (name, bytes) in &first {
        assert!(*bytes == second[name], "{name} differs");
    }
    for part in ["_arm64.deb", "_armhf.deb", "_amd64.deb", ".oci.tar", "SHA256SUMS.sig"] {
        assert!(names.iter().any(|name| name.ends_with(part)), "no {part} in {names:?}");
    }
}

#[test]
fn a_debian_package_has_its_files_for_root_and_its_configuration_for_the_user() {
    if !has("dpkg-deb") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let release = release(dir.path(), None);
    let (_, content) = contents().remove(0);
    let package = deb::build(&release, &content, "arm64", "libc6 (>= 2.28)").unwrap();
    let ask =
        |what: &str| text(&Command::new("dpkg-deb").arg(what).arg(&package).output().unwrap());
    let files = ask("--contents");
    for (mode, path) in [
        ("-rwxr-xr-x root/root", "./usr/bin/edge-agent"),
        ("-rw-r--r-- root/root", "./lib/systemd/system/edge-agent.service"),
        ("-rw-r--r-- root/root", "./usr/share/edge-agent/agent.toml"),
        ("-rw-r--r-- root/root", "./usr/share/doc/edge-agent/copyright"),
    ] {
        let line = files.lines().find(|line| line.ends_with(path));
        let line = line.unwrap_or_else(|| panic!("no {path} in\n{files}"));
        assert!(line.starts_with(mode), "{line}");
        assert!(line.contains("2024-05-31"), "not of the release's time: {line}");
    }
    let fields = ask("--field");
    for field in ["Version: 1.2.3", "Architecture: arm64", "Depends: passwd, libc6 (>= 2.28)"] {
        assert!(fields.contains(field), "{field} is not in\n{fields}");
    }
    let control = dir.path().join("control");
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--control").arg(&package).arg(&control);
    assert!(unpack.status().unwrap().success());
    assert!(
        !control.join("conffiles").exists(),
        "dpkg would delete it under a gateway of install.sh"
    );
    let sums = std::fs::read_to_string(control.join("md5sums")).unwrap();
    assert!(sums.contains("  usr/bin/edge-agent\n") && !sums.contains("etc/"), "{sums}");
}

#[test]
fn scripts_are_shell() {
    let folder = project_root().join("cross/packages");
    for script in
        ["preinst", "postinst", "prerm", "postrm", "install.sh", "edge-agent.openrc", "guest-init"]
    {
        let checked = Command::new("sh").arg("-n").arg(folder.join(script)).output().unwrap();
        assert!(checked.status.success(), "{script}: {}", text(&checked));
    }
}

/// Also where serial ports are opened.
#[test]
fn the_unit_gives_away_little() {
    if !has("systemd-analyze") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("edge-agent.service");
    let packages = project_root().join("cross/packages");
    std::fs::copy(packages.join("edge-agent.service"), &unit).unwrap();
    let exposed = || {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX]);
        let output = command.arg(&unit).output().unwrap();
        (output.status.success(), text(&output))
    };
    let (good, said) = exposed();
    assert!(good, "{said}");
    assert!(!said.contains("/dev/tty"), "{said}");
    let drop_ins = dir.path().join("edge-agent.service.d");
    std::fs::create_dir(&drop_ins).unwrap();
    std::fs::copy(packages.join("serial.conf"), drop_ins.join("serial.conf")).unwrap();
    let (good, said) = exposed();
    assert!(good, "{said}");
    assert!(said.contains("/dev/ttyUSB0:rw"), "the drop-in was not read: {said}");
}

/// `install.sh WORDS` of a release, below an own root.
fn install(dir: &Path, words: &[&str]) -> (bool, String) {
    let mut command = Command::new("sh");
    command.arg(dir.join("out/install.sh")).args(words).env("DESTDIR", dir.join("root"));
    let output = command.output().unwrap();
    (output.status.success(), text(&output))
}

#[test]
fn the_installer_takes_what_is_signed_and_whole_and_nothing_else() {
    if !has("dpkg-deb") || !has("openssl") {
        return;
    }
    let key = SigningKey::generate().unwrap();
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), Some(&key));
    let (out, root) = (dir.path().join("out"), dir.path().join("root"));
    let (good, said) = install(dir.path(), &[]);
    assert!(good, "{said}");
    assert!(said.contains("signature good, checksum good"), "{said}");
    assert!(root.join("usr/local/bin/edge-agent").is_file());
    let unit = std::fs::read_to_string(root.join("etc/systemd/system/edge-agent.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/edge-agent launch "), "{unit}");
    // The user's configuration stays at an upgrade and at a removal.
    std::fs::write(root.join("etc/holm/agent.toml"), "name = \"mine\"\n").unwrap();
    assert!(install(dir.path(), &[]).0);
    assert!(root.join("usr/local/share/edge-agent/serial.conf").is_file());
    let drop_in = root.join("etc/systemd/system/edge-agent.service.d/mine.conf");
    std::fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    std::fs::write(&drop_in, "[Service]\nNice=5\n").unwrap();
    for stays in ["var/lib/holm/store", "var/lib/holm-slots/a", "var/log/holm"] {
        std::fs::create_dir_all(root.join(stays)).unwrap();
    }
    let (good, said) = install(dir.path(), &["--remove"]);
    assert!(good && !root.join("usr/local/bin/edge-agent").exists(), "{said}");
    let stays = ["etc/holm", "var/lib/holm", "var/lib/holm-slots", "var/log/holm"];
    let stays = stays.map(|path| root.join(path).display().to_string()).join(" ");
    assert!(said.contains(&format!("rm -rf {stays}\n")), "{said}");
    assert!(!root.join("usr/local/share/edge-agent").exists(), "{said}");
    assert!(drop_in.is_file() && said.contains("your drop-ins"), "{said}");
    let kept = std::fs::read_to_string(root.join("etc/holm/agent.toml")).unwrap();
    assert_eq!(kept, "name = \"mine\"\n");

    let refuses = |why: &str| {
        let (good, said) = install(dir.path(), &["--check"]);
        assert!(!good && said.contains(why), "expected `{why}`, but: {said}");
    };
    let machine = Command::new("uname").arg("-m").output().unwrap();
    let machine = text(&machine).trim().to_owned();
    let target = TARGETS.iter().find(|target| target.machine == machine).unwrap();
    let tarball = out.join(format!("edge-agent-1.2.3-{}.tar.gz", target.triple));
    let whole = std::fs::read(&tarball).unwrap();
    let mut damaged = whole.clone();
    damaged[40] ^= 1;
    std::fs::write(&tarball, &damaged).unwrap();
    refuses("is damaged");
    // Who damages it can also correct the sum, but not sign it.
    let sums = std::fs::read_to_string(out.join("SHA256SUMS")).unwrap();
    let (was, is) = (Digest::of(&whole).to_string(), Digest::of(&damaged).to_string());
    std::fs::write(out.join("SHA256SUMS"), sums.replace(&was, &is)).unwrap();
    refuses("the signature of SHA256SUMS is wrong");
    std::fs::write(out.join("SHA256SUMS"), &sums).unwrap();
    std::fs::write(&tarball, &whole).unwrap();
    assert!(install(dir.path(), &["--check"]).0);
    let stranger = tempfile::tempdir().unwrap();
    made(stranger.path(), Some(&SigningKey::generate().unwrap()));
    std::fs::copy(stranger.path().join("out/SHA256SUMS.sig"), out.join("SHA256SUMS.sig")).unwrap();
    refuses("the signature of SHA256SUMS is wrong");
}

/// The folder of a release may be writable for others, who wait for the check to be over.
#[test]
fn what_is_installed_is_what_was_checked() {
    if !has("dpkg-deb") || !has("openssl") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), Some(&SigningKey::generate().unwrap()));
    let (out, tools) = (dir.path().join("out"), dir.path().join("tools"));
    std::fs::create_dir(&tools).unwrap();
    let path = std::env::var("PATH").unwrap();
    let swap = format!(
        "#!/bin/sh\nPATH={path}\nsha256sum \"$@\" && for file in {}/*.tar.gz; do echo >$file; done\n",
        out.display()
    );
    std::fs::write(tools.join("sha256sum"), swap).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(tools.join("sha256sum"), executable).unwrap();
    let mut command = Command::new("sh");
    command.arg(out.join("install.sh")).env("DESTDIR", dir.path().join("root"));
    command.env("PATH", format!("{}:{path}", tools.display()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let agent = std::fs::read_to_string(dir.path().join("root/usr/local/bin/edge-agent")).unwrap();
    assert!(agent.starts_with("#!/bin/sh\necho "), "{agent}");
    let swapped = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let swapped = swapped.filter(|path| path.to_string_lossy().ends_with(".tar.gz"));
    assert!(swapped.map(|path| std::fs::read(path).unwrap()).all(|bytes| bytes == b"\n"));
}

#[test]
fn a_release_without_a_key_is_installed_only_by_who_says_so() {
    if !has("dpkg-deb") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let files = made(dir.path(), None);
    assert!(!files.contains_key("SHA256SUMS.sig"));
    let (good, said) = install(dir.path(), &[]);
    assert!(!good && said.contains("not signed"), "{said}");
    let (good, said) = install(dir.path(), &["--unsigned"]);
    assert!(good && said.contains("signature NOT CHECKED"), "{said}");
}

#[test]
fn a_container_image_holds_together() {
    if !has("dpkg-deb") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), None);
    let layout = dir.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(dir.path().join("out/edge-agent-1.2.3.oci.tar")).arg("-C").arg(&layout);
    assert!(tar.status().unwrap().success());
    let read = |path: &str| std::fs::read(layout.join(path)).unwrap();
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = read(&format!("blobs/sha256/{digest}"));
        assert_eq!(Digest::of(&bytes).to_string(), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let top = json(&read("index.json"));
    let index = json(&blob(&top["manifests"][0]));
    let images = index["manifests"].as_array().unwrap();
    let machines: Vec<_> = images.iter().map(|image| &image["platform"]["architecture"]).collect();
    assert_eq!(machines, ["amd64", "arm64"]);
    for image in images {
        let manifest = json(&blob(image));
        let config = json(&blob(&manifest["config"]));
        assert_eq!(config["architecture"], image["platform"]["architecture"]);
        assert_eq!(config["config"]["User"], "65532:65532");
        for (at, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
            let packed = dir.path().join("layer.gz");
            std::fs::write(&packed, blob(layer)).unwrap();
            let unpacked = Command::new("gzip").arg("-dc").arg(&packed).output().unwrap().stdout;
            let digest = format!("sha256:{}", Digest::of(&unpacked));
            assert_eq!(config["rootfs"]["diff_ids"][at], digest.as_str());
        }
    }
}

/// A restore puts another folder in the place of the data: the programs must not go with it. `install.sh` and the
/// package make both folders, and purging takes both.
#[test]
fn slots_lie_beside_the_data() {
    let source = |name: &str| {
        let path = project_root().join("cross/packages").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let behind = |text: &str, words: &str| {
        let (_, rest) = text.split_once(words).unwrap();
        rest.split([' ', '"', '\n']).next().unwrap().to_owned()
    };
    let behind_line = |text: &str, words: &str| {
        let (_, rest) = text.split_once(words).unwrap();
        format!("{words}{}", rest.split(['"', '\n']).next().unwrap())
    };
    let data = behind(&source("agent.toml"), "data_dir = \"");
    for name in ["edge-agent.service", "edge-agent.openrc"] {
        let slots = behind(&source(name), "--slots ");
        assert!(Path::new(&slots).is_absolute(), "{name}: {slots}");
        assert!(!Path::new(&slots).starts_with(&data), "{name}: {slots} lies in {data}");
        // What users without an init system are told to start is what the unit starts.
        let start = behind_line(&source(name), "launch --slots ");
        assert!(source("install.sh").contains(&format!("edge-agent {start}")), "{name}: {start}");
        let both = format!("{data} {slots}\n");
        for name in ["postinst", "install.sh", "edge-agent.openrc"] {
            assert!(source(name).contains(&both), "{name} does not make {both}");
        }
        assert!(source("postrm").contains(&format!("forget {slots}\n")));
    }
    let unit = source("edge-agent.service");
    let states = unit.lines().find_map(|line| line.strip_prefix("StateDirectory=")).unwrap();
    let states: Vec<_> = states.split(' ').map(|name| format!("/var/lib/{name}")).collect();
    assert_eq!(states, [data, behind(&unit, "--slots ")]);
}
