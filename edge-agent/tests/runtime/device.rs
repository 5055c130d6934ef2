//! The same function on a device: the core module inside the component, run by `device-function`,
//! does what the component does in the gateway's runtime.
//!
//! Here the module is compiled for this machine; that the interpreter of a microcontroller agrees
//! is shown in QEMU (`firmware-examples/qemu-mps2-an386-function`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use device_function as device;
use edge_agent::runtime::{
    BuildOptions, DEVICE_TARGET, DeviceError, InnerModule, Limits, MemoryState, Prepared,
    WASMTIME_VERSION, build_function,
};
use edge_core::outcome::{FaultKind, Outcome, Outputs};
use edge_core::topic::TopicFilter;
use sync_protocol::device_image::{self, DEVICE_LIMITS_MAX, DeviceGrants, DeviceLimits, Header};
use sync_protocol::{Digest, SigningKey};

use super::harness::{domain, functions_dir, profile, run_on, runtime};

const HEAP_BYTES: u64 = 384 << 10;
const FILTERS: [&str; 3] = ["count/+", "rogue/#", "smooth/+"];
const RECORDS: [&str; 1] = ["count"];

/// Components with a stack for devices, each built once.
fn component(name: &'static str) -> Arc<[u8]> {
    static BUILT: Mutex<BTreeMap<&'static str, Arc<[u8]>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap();
    let build = || {
        let is_smooth = name == "smooth";
        let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/apps/cold-chain/functions");
        let dir = if is_smooth { app.join(name) } else { functions_dir() };
        let options = BuildOptions {
            stack_bytes: 16 << 10,
            example: (!is_smooth).then(|| name.to_owned()),
            // Apart from the other tests': another stack is another flag, which rebuilds all.
            target_dir: Some(functions_dir().join("target/device")),
            ..BuildOptions::default()
        };
        Arc::from(build_function(&dir, &options).unwrap())
    };
    Arc::clone(built.entry(name).or_insert_with(build))
}

fn this_machine() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn header(component: &[u8], module: &InnerModule<'_>) -> Header {
    Header {
        wasmtime: WASMTIME_VERSION.to_owned(),
        function: "app/function".to_owned(),
        sequence: 1,
        floor: 0,
        component: Digest::of(component),
        module: Digest::of(module.bytes),
        limits: DeviceLimits { memory_initial: module.memory_initial_bytes, ..DEVICE_LIMITS_MAX },
        grants: DeviceGrants {
            publish: FILTERS.map(str::to_owned).to_vec(),
            record: RECORDS.map(str::to_owned).to_vec(),
            state: true,
            config: Vec::new(),
        },
    }
}

/// An image for this machine.
fn image(component: &[u8], key: &SigningKey, change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let module = InnerModule::of(component, DEVICE_LIMITS_MAX.memory).unwrap();
    let mut header = header(component, &module);
    change(&mut header);
    device_image::write(&header, &module.compile(&this_machine()).unwrap(), key).unwrap()
}

/// Puts bytes where flash would have them.
fn flash(bytes: &[u8]) -> &'static [u8] {
    let slot: &'static mut [u8] = vec![0; bytes.len() + 64].leak();
    let at = slot.as_ptr().align_offset(64);
    let slot = &mut slot[at..at + bytes.len()];
    slot.copy_from_slice(bytes);
    slot
}

fn raw(key: &SigningKey) -> [u8; 32] {
    let text = key.public().to_string();
    let encoded = text.strip_prefix("ed25519:").unwrap();
    base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, encoded)
        .unwrap()
        .try_into()
        .unwrap()
}

fn load(component: &[u8], change: impl FnOnce(&mut Header)) -> device::Function {
    let key = SigningKey::generate().unwrap();
    let bytes = image(component, &key, change);
    let image = device::Image::verify(flash(&bytes), &[raw(&key)], None).unwrap();
    device::Function::load(&image, HEAP_BYTES).unwrap()
}

fn on_gateway(name: &'static str) -> Arc<Prepared> {
    let mut profile = profile(name);
    profile.limits =
        Limits { memory_bytes: DEVICE_LIMITS_MAX.memory.into(), time_ms: 500, ..Limits::default() };
    profile.grants.publish = FILTERS.map(|filter| TopicFilter::new(filter).unwrap()).to_vec();
    profile.grants.record = RECORDS.map(str::to_owned).to_vec();
    runtime().prepare(&component(name), profile).unwrap()
}

/// The event that `run_on` gives to the gateway's runtime.
fn event(topic: &str, payload: &[u8]) -> device::Event {
    let event = super::harness::event(topic, payload);
    device::Event {
        id: event.id.to_string(),
        trigger: "trigger".to_owned(),
        topic: topic.to_owned(),
        payload: payload.to_vec(),
        device: Some("m1".to_owned()),
        time: device::Timestamp { unix_ms: event.time.unix_ms, synced: true },
        attempt: 1,
        ..device::Event::default()
    }
}

fn effects(outputs: &Outputs) -> device::Effects {
    let publishes = outputs.publishes.iter().map(|publish| device::Publication {
        topic: publish.topic.as_str().to_owned(),
        payload: publish.payload.to_vec(),
        qos: match publish.qos {
            edge_core::message::QoS::AtMostOnce => device::QoS::AtMostOnce,
            edge_core::message::QoS::AtLeastOnce => device::QoS::AtLeastOnce,
            edge_core::message::QoS::ExactlyOnce => device::QoS::ExactlyOnce,
        },
        retain: publish.retain,
        content_type: publish.properties.content_type.clone(),
        properties: publish.properties.user.clone(),
    });
    let records = outputs.records.iter().map(|record| device::Record {
        name: record.name.clone(),
        payload: record.payload.to_vec(),
        content_type: record.content_type.clone(),
    });
    let state = outputs.state.iter().map(|change| device::StateChange {
        key: change.key.clone(),
        value: change.value.as_ref().map(|value| value.to_vec()),
    });
    device::Effects {
        publishes: publishes.collect(),
        records: records.collect(),
        state: state.collect(),
    }
}

/// What the gateway's outcome would be on a device; of a fault only its kind is the same.
fn outcome(outcome: &Outcome) -> device::Outcome {
    match outcome {
        Outcome::Done(outputs) => device::Outcome::Done(effects(outputs)),
        Outcome::Retry { reason } => device::Outcome::Retry(reason.clone()),
        Outcome::Reject { reason } => device::Outcome::Reject(reason.clone()),
        other => panic!("{other:?}"),
    }
}

/// Runs a function on both, event by event on its own state, and compares.
fn compare(name: &'static str, events: impl Iterator<Item = (&'static str, Vec<u8>)>) -> usize {
    let (gateway, function) = (on_gateway(name), load(&component(name), |_| ()));
    let applied = Arc::new(MemoryState::default());
    let mut state = device::State::default();
    let mut count = 0;
    for (topic, payload) in events {
        let expected = run_on(&gateway, &applied, topic, &payload);
        let report = function.process(&event(topic, &payload), &mut state);
        assert_eq!(report.outcome, outcome(&expected.outcome), "{topic} {count}");
        let here = report.logs.iter().map(|line| (format!("{:?}", line.level), &line.text));
        let there = expected.logs.iter().map(|line| (format!("{:?}", line.level), &line.text));
        assert!(here.eq(there), "{topic} {count}: {:?} {:?}", report.logs, expected.logs);
        if let Outcome::Done(outputs) = &expected.outcome {
            applied.apply(&domain(&gateway), &outputs.state);
        }
        count += 1;
    }
    let kept: Vec<_> = applied.entries(&domain(&gateway));
    let kept_here: Vec<_> = state.entries().collect();
    assert_eq!(kept_here.len(), kept.len());
    for ((key, value), (key_here, value_here)) in kept.iter().zip(kept_here) {
        assert_eq!((key.as_str(), value.as_ref()), (key_here, value_here));
    }
    count
}

/// The core modules of a component, found by its binary format alone: sections of one byte kind,
/// LEB128 length and content, of which kind 1 is a core module.
fn core_modules(component: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut modules) = (&component[8..], Vec::new());
    while let [kind, after @ ..] = rest {
        let digits = after.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let value = |(n, byte): (usize, &u8)| usize::from(byte & 0x7f) << (7 * n);
        let len: usize = after[..digits].iter().enumerate().map(value).sum();
        let (content, next) = after[digits..].split_at(len);
        modules.extend((*kind == 1).then_some(content));
        rest = next;
    }
    modules
}

#[test]
fn the_module_is_the_very_bytes_inside_the_component() {
    for name in ["smooth", "counter", "rogue"] {
        let component = component(name);
        let module = InnerModule::of(&component, DEVICE_LIMITS_MAX.memory).unwrap();
        let inside = core_modules(&component);
        // The others tie imports together: they hold no code of the author's.
        let (own, ties): (Vec<&[u8]>, Vec<&[u8]>) =
            inside.into_iter().partition(|bytes| *bytes == module.bytes);
        assert_eq!(own.len(), 1, "{name}");
        assert!(ties.iter().all(|bytes| bytes.len() < 1_000), "{name}");
        assert!(component.as_ptr_range().contains(&module.bytes.as_ptr()), "{name}: a copy");
        assert_eq!(module.memory_initial_bytes, 64 << 10, "{name}");
        let code = module.compile(DEVICE_TARGET).unwrap();
        assert_eq!(module.compile(DEVICE_TARGET).unwrap(), code, "{name}: not reproducible");
    }
}

#[test]
fn readings_are_smoothed_to_the_last_bit() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/machine_temperature_excerpt.csv");
    let text = std::fs::read_to_string(file).unwrap();
    let values = text.lines().skip(1).take(1_000).map(|line| line.rsplit(',').next().unwrap());
    let events = values.enumerate().map(|(n, value)| {
        let payload = format!("{{\"device\":\"m1\",\"seq\":{},\"value\":{value}}}", n + 1);
        ("sensors/m1", payload.into_bytes())
    });
    assert_eq!(compare("smooth", events), 1_000);
}

#[test]
fn every_kind_of_effect_and_every_way_to_return_is_the_same() {
    let payloads = ["a", "retry", "reject", "", "b"].map(|payload| payload.as_bytes().to_vec());
    compare("counter", payloads.into_iter().map(|payload| ("counts/m1", payload)));
    let rogue = [("rogues/read-own", ""), ("rogues/state", ""), ("rogues/read-own", "")];
    let rogue = rogue.into_iter().chain([("rogues/fine", ""), ("rogues/nothing-of-that-name", "")]);
    compare("rogue", rogue.map(|(topic, payload)| (topic, payload.as_bytes().to_vec())));
}

#[test]
fn misbehaviour_ends_in_the_same_kind_of_fault_and_leaves_nothing() {
    let cases = [
        ("loop", FaultKind::Timeout, device::FaultKind::Timeout),
        ("allocate", FaultKind::Memory, device::FaultKind::Memory),
        ("recurse-lean", FaultKind::Stack, device::FaultKind::Stack),
        ("panic", FaultKind::Trap, device::FaultKind::Trap),
        ("index", FaultKind::Trap, device::FaultKind::Trap),
        ("divide", FaultKind::Trap, device::FaultKind::Trap),
        ("log", FaultKind::Outputs, device::FaultKind::Outputs),
        ("log-empty", FaultKind::Outputs, device::FaultKind::Outputs),
        ("publish", FaultKind::Outputs, device::FaultKind::Outputs),
        ("denied-publish", FaultKind::Denied, device::FaultKind::Denied),
        ("denied-record", FaultKind::Denied, device::FaultKind::Denied),
        ("wildcard", FaultKind::Denied, device::FaultKind::Denied),
        ("for-event", FaultKind::Denied, device::FaultKind::Denied),
        ("state-key", FaultKind::Outputs, device::FaultKind::Outputs),
        ("state-flood", FaultKind::Outputs, device::FaultKind::Outputs),
    ];
    let (gateway, function) = (on_gateway("rogue"), load(&component("rogue"), |_| ()));
    let mut state = device::State::default();
    for (how, on_gateway, on_device) in cases {
        let topic = format!("rogues/{how}");
        let expected = run_on(&gateway, &Arc::default(), &topic, b"");
        let Outcome::Fault(fault) = &expected.outcome else { panic!("{how}: {expected:?}") };
        assert_eq!(fault.kind, on_gateway, "{how}");
        let report = function.process(&event(&topic, b""), &mut state);
        let device::Outcome::Fault(fault) = &report.outcome else { panic!("{how}: {report:?}") };
        assert_eq!(fault.kind, on_device, "{how}: {}", fault.message);
        assert_eq!(state, device::State::default(), "{how}");
    }
    let report = function.process(&event("rogues/fine", b""), &mut state);
    assert_eq!(report.outcome, device::Outcome::Done(device::Effects::default()));
}

#[test]
fn an_image_that_is_not_as_signed_is_refused() {
    use device::ImageError;
    let component = component("smooth");
    let key = SigningKey::generate().unwrap();
    let good = image(&component, &key, |_| ());
    let verify = |bytes: &[u8]| device::Image::verify(flash(bytes), &[raw(&key)], None).map(drop);
    assert_eq!(verify(&good), Ok(()));

    let stranger = SigningKey::generate().unwrap();
    let refused = device::Image::verify(flash(&good), &[raw(&stranger)], None).unwrap_err();
    assert_eq!(refused, ImageError::Signature);
    // Which bit ever is changed.
    for at in (0..good.len()).step_by(1 + good.len() / 400) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(verify(&bad).is_err(), "byte {at}");
    }
    for len in [0, 15, 27, 28, 300, good.len() - 1] {
        let refused = verify(&good[..len]).unwrap_err();
        let named = matches!(refused, ImageError::Truncated { .. } | ImageError::NotAnImage);
        assert!(named, "{len}: {refused:?}");
    }
    // Where the length of the header stands; it is bounded before anything is made of it.
    let mut huge = good.clone();
    huge[24..28].copy_from_slice(&8193_u32.to_le_bytes());
    assert_eq!(verify(&huge), Err(ImageError::HeaderTooLarge(8193)));
    // The code of one function behind the header of another: signed once, but not together.
    let other = image(&self::component("counter"), &key, |_| ());
    let spliced = [&good[..good.len() / 2], &other[good.len() / 2..]].concat();
    assert!(verify(&spliced).is_err());

    let old = image(&component, &key, |header| header.wasmtime = "48.0.7".to_owned());
    let refused = verify(&old).unwrap_err();
    assert_eq!(refused, ImageError::Wasmtime { image: "48.0.7".to_owned() });
    assert!(refused.to_string().contains("48.0.7"), "{refused}");

    let wanted = Digest::of(b"another").0;
    let refused = device::Image::verify(flash(&good), &[raw(&key)], Some(&wanted)).unwrap_err();
    assert!(matches!(refused, ImageError::OtherComponent { .. }), "{refused:?}");
    let wanted = Digest::of(&component).0;
    assert!(device::Image::verify(flash(&good), &[raw(&key)], Some(&wanted)).is_ok());
}

#[test]
fn what_a_device_cannot_hold_or_serve_is_refused_before_it_runs() {
    let component = component("smooth");
    let key = SigningKey::generate().unwrap();
    let bytes = image(&component, &key, |_| ());
    let image = device::Image::verify(flash(&bytes), &[raw(&key)], None).unwrap();
    let refused = device::Function::load(&image, 128 << 10).err();
    assert!(matches!(refused, Some(device::LoadError::Heap { .. })), "{refused:?}");

    // A long configuration counts for what is made of it.
    let needed = |value_bytes: usize| {
        let value = ("k".to_owned(), "v".repeat(value_bytes));
        let bytes = self::image(&component, &key, |header| header.grants.config = vec![value]);
        let image = device::Image::verify(flash(&bytes), &[raw(&key)], None).unwrap();
        match device::Function::load(&image, 0) {
            Err(device::LoadError::Heap { needed_bytes, .. }) => needed_bytes,
            other => panic!("{:?}", other.err()),
        }
    };
    assert_eq!(needed(7_000), needed(6_000) + 3 * 1_000);

    let refused = InnerModule::of(&component, 32 << 10).unwrap_err();
    assert!(matches!(refused, DeviceError::Memory { .. }), "{refused:?}");
    let batches = super::harness::component("batch_only");
    let refused = InnerModule::of(&batches, u32::MAX).unwrap_err();
    assert!(matches!(refused, DeviceError::NoHandler), "{refused:?}");
    assert!(matches!(InnerModule::of(b"junk", 0), Err(DeviceError::Malformed(_))));
    for len in (0..component.len()).step_by(997) {
        assert!(InnerModule::of(&component[..len], u32::MAX).is_err(), "{len}");
    }
}
