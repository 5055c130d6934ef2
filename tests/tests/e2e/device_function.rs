//! The same function on an emulated microcontroller: built by `holm`, run in QEMU on a Cortex-M4,
//! compared with the gateway's runtime.
//!
//! The firmware is built apart from the workspace, by the first test that wants it. Without QEMU the tests are skipped by
//! name.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use edge_agent::runtime::{DEVICE_TARGET, InnerModule, WASMTIME_VERSION};
use serde_json::{Value, json};
use sync_protocol::device_image::{self, DEVICE_LIMITS_MAX, DeviceGrants, DeviceLimits, Header};
use sync_protocol::revision::AuthorKeys;
use sync_protocol::{AuthorKey, Bundle, Digest, Manifest, SigningKey};
use system_tests::author::{Author, fixture};
use system_tests::qemu::{self, Firmware};
use system_tests::sensors::function::{FOLDER, Machine, build, events};

const READINGS: usize = 1_000;
const REFUSED: i32 = 2;

/// The firmware, if this machine can run it.
fn firmware() -> Result<Option<Firmware>> {
    if !qemu::is_here() {
        eprintln!("skipped: {} is missing (`cargo xtask test --install`)", qemu::PROGRAM);
        return Ok(None);
    }
    qemu::firmware(FOLDER, &[]).map(Some)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What the device printed, as `holm invoke --json` tells it: one object an event. Payloads in
/// hexadecimal.
fn reports(printed: &str) -> Vec<Value> {
    let mut reports: Vec<Value> = Vec::new();
    for line in printed.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let mut put = |list: &str, item: Value| {
            let report = reports.last_mut().expect("effects follow their event");
            report[list].as_array_mut().expect("a list").push(item);
        };
        match words.as_slice() {
            ["event", _, outcome, ..] => reports.push(json!({
                "outcome": outcome, "publishes": [], "records": [], "state": [],
            })),
            ["publish", topic, qos, retain, content_type, payload] => {
                put("publishes", json!([topic, qos, retain, content_type, payload]));
            }
            ["record", name, content_type, payload] => {
                put("records", json!([name, content_type, payload]));
            }
            ["state", key, value] => put("state", json!([key, value])),
            _ => {}
        }
    }
    reports
}

fn hex(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("text");
    (0..text.len() / 2)
        .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).expect("hexadecimal"))
        .collect()
}

/// Whether bytes that the device printed are those that `holm invoke` shows, as JSON or as text.
fn same(printed: &Value, shown: &Value, name: &str) -> bool {
    let bytes = hex(printed);
    match (&shown[name], &shown[format!("{name}_text")]) {
        (Value::Null, text) => text.as_str().map(str::as_bytes) == Some(bytes.as_slice()),
        (json, _) => serde_json::from_slice::<Value>(&bytes).is_ok_and(|value| value == *json),
    }
}

#[test]
fn a_thousand_readings_give_the_same_on_gateway_and_microcontroller() -> Result<()> {
    let Some(firmware) = firmware()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let author = Author::new(&at("author"))?;
    author.holm(&["keys", "export", "default", "--out", text(&at("author.pub"))])?;
    let built = build(&author, "smooth", &at("smooth.img"))?;
    std::fs::write(at("events.txt"), events(READINGS)?)?;

    let device = Machine {
        firmware,
        image: at("smooth.img"),
        author: at("author.pub"),
        component: built["component"].as_str().context("no digest")?.to_owned(),
    };
    let (code, printed) = device.run(&at("events.txt"))?;
    ensure!(code == 0, "{code}: {printed}");
    let app = fixture("apps").join("device");
    let app = ["invoke", "smooth", "--app", text(&app), "--device", "m1", "--json"];
    let shown = author.holm(&[app.as_slice(), &["--event", text(&at("events.txt"))]].concat())?;
    let shown: Vec<Value> =
        shown.lines().map(serde_json::from_str).collect::<Result<_, serde_json::Error>>()?;
    let reports = reports(&printed);
    assert_eq!((reports.len(), shown.len()), (READINGS, READINGS));
    for (n, (report, shown)) in reports.iter().zip(&shown).enumerate() {
        assert_eq!((&report["outcome"], &shown["outcome"]), (&json!("done"), &json!("ok")), "{n}");
        let [publish] = report["publishes"].as_array().expect("a list").as_slice() else {
            panic!("{n}: {report}");
        };
        let expected = &shown["publishes"][0];
        assert_eq!(publish[0], expected["topic"], "{n}");
        assert_eq!(publish[1], json!(expected["qos"].to_string()), "{n}");
        assert_eq!(publish[3], expected["content_type"], "{n}");
        assert!(same(&publish[4], expected, "payload"), "{n}: {publish} {expected}");
        let (change, expected) = (&report["state"][0], &shown["state"][0]);
        assert_eq!(change[0], expected["key"], "{n}");
        assert!(same(&change[1], expected, "value"), "{n}: {change} {expected}");
    }
    eprintln!("{}", printed.lines().rev().take(3).collect::<Vec<_>>().join("\n"));
    Ok(())
}

#[test]
fn a_microcontroller_ends_what_misbehaves_and_goes_on() -> Result<()> {
    let Some(firmware) = firmware()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let author = Author::new(&at("author"))?;
    author.holm(&["keys", "export", "default", "--out", text(&at("author.pub"))])?;
    build(&author, "rogue", &at("rogue.img"))?;
    let cases = [
        ("loop", "timeout"),
        ("allocate", "memory"),
        ("recurse-lean", "stack"),
        ("panic", "trap"),
        ("publish", "outputs"),
        ("publish-properties", "memory"),
        ("state-flood", "outputs"),
        ("log-empty", "outputs"),
        ("denied-publish", "denied"),
        ("fine", "done"),
        ("read-own", "done"),
    ];
    // Twice: nothing is used up.
    let lines = cases.iter().chain(&cases).map(|(how, _)| format!("rogues/{how} -\n"));
    std::fs::write(at("events.txt"), lines.collect::<String>())?;
    let image = at("rogue.img");
    let author_file = at("author.pub");
    let mut device = Machine { firmware, image, author: author_file, component: String::new() };
    let (code, printed) = device.run(&at("events.txt"))?;
    ensure!(code == 0, "{code}: {printed}");
    let outcomes: Vec<Value> =
        reports(&printed).iter().map(|report| report["outcome"].clone()).collect();
    let expected: Vec<Value> = cases.iter().chain(&cases).map(|(_, end)| json!(end)).collect();
    assert_eq!(outcomes, expected, "{printed}");
    ensure!(printed.contains("timeout fuel 20000000 "), "the loop used up its fuel: {printed}");
    ensure!(printed.contains(": fuel limit 20000000 reached"), "{printed}");

    let good = std::fs::read(&device.image)?;
    let refuse = |bytes: &[u8], why: &str| -> Result<()> {
        std::fs::write(&device.image, bytes)?;
        let (code, printed) = device.run(&at("events.txt"))?;
        assert!(code == REFUSED && printed.contains(why), "{why}: {code} {printed}");
        Ok(())
    };
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    refuse(&damaged, "no author key of this device signed the image")?;
    refuse(&good[..good.len() - 1_000], "no author key of this device signed the image")?;
    refuse(&[0xff; 64], "this is no device image")?;
    let mut flipped = good.clone();
    // The last byte of the code: behind it stands the signature.
    flipped[good.len() - 65] ^= 1;
    refuse(&flipped, "no author key of this device signed the image")?;
    std::fs::write(&device.image, &good)?;
    device.component = "00".repeat(32);
    let (code, printed) = device.run(&at("events.txt"))?;
    assert!(code == REFUSED && printed.contains("was made of component"), "{code} {printed}");
    let other = Author::new(&at("other"))?;
    other.holm(&["keys", "export", "default", "--out", text(&device.author)])?;
    let (code, printed) = device.run(&at("events.txt"))?;
    assert!(code == REFUSED && printed.contains("no author key"), "{code} {printed}");
    Ok(())
}

/// An image that is signed rightly, with another header than `holm` would write.
fn signed(key: &SigningKey, change: impl FnOnce(&mut Header)) -> Result<Vec<u8>> {
    let limits = DeviceLimits { memory_initial: 64 << 10, ..DEVICE_LIMITS_MAX };
    let grants =
        DeviceGrants { publish: Vec::new(), record: Vec::new(), state: false, config: Vec::new() };
    let mut header = Header {
        wasmtime: WASMTIME_VERSION.to_owned(),
        function: "a/f".to_owned(),
        sequence: 1,
        floor: 0,
        component: Digest([1; 32]),
        module: Digest([2; 32]),
        limits,
        grants,
    };
    change(&mut header);
    Ok(device_image::write(&header, b"no code", key)?)
}

#[test]
fn a_microcontroller_refuses_what_it_cannot_run_although_it_is_signed() -> Result<()> {
    let Some(firmware) = firmware()? else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let key = SigningKey::generate()?;
    std::fs::write(at("author.pub"), format!("{}\n", key.public()))?;
    std::fs::write(at("events.txt"), "a b\n")?;
    let device = Machine {
        firmware,
        image: at("f.img"),
        author: at("author.pub"),
        component: String::new(),
    };
    let refuse = |image: Vec<u8>, why: &str| -> Result<()> {
        std::fs::write(&device.image, image)?;
        let (code, printed) = device.run(&at("events.txt"))?;
        assert!(code == REFUSED && printed.contains(why), "{why}: {code} {printed}");
        Ok(())
    };
    let old = signed(&key, |header| header.wasmtime = "48.0.7".to_owned())?;
    refuse(old, "was compiled for wasmtime 48.0.7, this firmware has 48.0.8")?;
    let hog = signed(&key, |header| header.limits.memory = 1 << 20)?;
    refuse(hog, "bytes of heap, this device gives 393216: lower its limits in holm.toml")?;
    let early = signed(&key, |header| header.limits.memory_initial = 192 << 10)?;
    refuse(early, "the module begins with more memory than its limit")?;
    refuse(signed(&key, |_| ())?, "the function does not load")
}

/// From what an author signs to what a device runs, link by link: the bundle that gateways take, the component in it, the
/// module in that, the code of that in the image.
#[test]
fn the_code_on_the_device_is_made_of_the_component_in_the_bundle() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    let author = Author::new(&at("author"))?;
    let built = build(&author, "smooth", &at("smooth.img"))?;
    let file = std::fs::read(author.build(&fixture("apps").join("device"))?)?;
    let bundle = Bundle::parse(&file)?;
    let key: AuthorKey = author.key()?.parse()?;
    let signed = &bundle.signed;
    signed.verify(&[key].into_iter().collect::<AuthorKeys>())?;
    let function = Manifest::from_bytes(&signed.manifest)?.functions["smooth"].clone();
    let component = bundle.artifacts[&function.artifact];
    assert_eq!(Digest::of(component), function.artifact);
    assert_eq!(built["component"], json!(function.artifact.to_string()));

    let module = InnerModule::of(component, DEVICE_LIMITS_MAX.memory)?;
    ensure!(component.as_ptr_range().contains(&module.bytes.as_ptr()), "a part of the component");
    assert_eq!(built["module"], json!(Digest::of(module.bytes).to_string()));
    let image = std::fs::read(at("smooth.img"))?;
    assert_eq!(built["image"], json!(Digest::of(&image).to_string()));
    let (signed, signature) = image.split_at(image.len() - 64);
    ensure!(key.verify(signed, signature), "signed by the same author");
    ensure!(signed.ends_with(&module.compile(DEVICE_TARGET)?), "the code is that of the module");
    Ok(())
}
