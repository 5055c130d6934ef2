use device_protocol::update::Offer;
use sync_protocol::revision::SigningKey;
use sync_protocol::{AuthorKey, SignedManifest};

use super::*;

fn device(name: &str) -> DeviceId {
    DeviceId::new(name)
}

fn image(seed: u8, length: usize) -> Bytes {
    (0..length).map(|n| u8::try_from(n % 251).unwrap_or(0) ^ seed).collect()
}

/// A signed manifest of an app with one image.
fn manifest(app: &str, bytes: &Bytes, version: u32, devices: &[&str]) -> (Manifest, AuthorKey) {
    let firmware = Image {
        kind: ImageKind::Firmware,
        artifact: Digest::of(bytes),
        size: bytes.len() as u64,
        board: "board".to_owned(),
        version,
        floor: 0,
        devices: devices.iter().map(|&text| text.to_owned()).collect(),
        signature: String::new(),
    };
    let manifest = Manifest {
        format: sync_protocol::manifest::FORMAT,
        app: app.to_owned(),
        version: "1".to_owned(),
        sequence: 1,
        floor: 0,
        functions: BTreeMap::new(),
        triggers: BTreeMap::new(),
        records: BTreeMap::new(),
        firmware: [("press".to_owned(), firmware)].into(),
        agent: None,
        system: None,
    };
    let key = SigningKey::generate().expect("entropy");
    let signed = SignedManifest::sign(&manifest, &key).expect("a good manifest");
    (Manifest::from_bytes(&signed.manifest).expect("its own bytes"), key.public())
}

fn gateway() -> Firmware {
    Firmware::new(["press-1", "press-2", "saw-1"].map(device), [])
}

fn want(bytes: &Bytes, offset: u32, length: u16) -> Want {
    let digest = Digest::of(bytes).0;
    let image = *digest.first_chunk().expect("32 bytes");
    Want { image, offset, length }
}

fn sent(done: &[Do]) -> Vec<(String, u32, Vec<u8>)> {
    let sends = done.iter().filter_map(|done| match done {
        Do::Send { device, payload } => Some((device, payload)),
        Do::Load(_) => None,
    });
    sends
        .map(|(device, payload)| match Down::decode(payload).expect("a message") {
            Down::Chunk(chunk) => (device.as_str().to_owned(), chunk.offset, chunk.bytes.to_vec()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_stands_is_what_is_live() {
    let bytes = image(1, 1_000);
    let (first, author) = manifest("a", &bytes, 3, &["press-*"]);
    let foreign = (device("gone"), ImageKind::Firmware, Bytes::from_static(b"old"));
    let mut firmware = Firmware::new(["press-1", "press-2", "saw-1"].map(device), [foreign]);
    let changes = firmware.live([&first]);
    let names: Vec<_> =
        changes.iter().map(|it| (it.device.as_str(), it.payload.len() > 3)).collect();
    assert_eq!(names, [("gone", false), ("press-1", true), ("press-2", true)]);
    let Down::Offer(Offer { digest, version: 3, length: 1_000, .. }) =
        Down::decode(&changes[1].payload).expect("an offer")
    else {
        panic!("no offer");
    };
    assert_eq!(digest, Digest::of(&bytes).0);
    let Down::Offer(offer) = Down::decode(&changes[1].payload).expect("an offer") else { panic!() };
    assert!(author.verify(&offer.signed().expect("short names"), offer.signature));

    assert_eq!(firmware.live([&first]), [], "nothing has changed");
    let (narrow, _) = manifest("a", &image(2, 10), 4, &["press-1"]);
    let changes = firmware.live([&narrow]);
    let names: Vec<_> =
        changes.iter().map(|it| (it.device.as_str(), it.payload.is_empty())).collect();
    assert_eq!(names, [("press-2", true), ("press-1", false)]);
    assert_eq!(firmware.live([]).len(), 1);
    assert_eq!(firmware.offered(&device("press-1"), [0; 8]), None);
}

#[test]
fn two_apps_with_images_for_one_device_are_refused() {
    let bytes = image(1, 10);
    let (a, _) = manifest("a", &bytes, 1, &["press-1"]);
    let (b, _) = manifest("b", &bytes, 1, &["press-*"]);
    let (c, _) = manifest("c", &bytes, 1, &["saw-*", "press-3"]);
    let firmware = gateway();
    assert_eq!(firmware.check(&a, [&a, &c]), Ok(()));
    let why = firmware.check(&a, [&c, &b]).expect_err("press-1 has two");
    assert!(why.contains("device press-1") && why.contains("app b"), "{why}");
}

#[test]
fn bytes_come_from_the_image_that_is_offered_and_from_no_other() {
    let (bytes, other) = (image(1, 2_500), image(2, 2_500));
    let (live, _) = manifest("a", &bytes, 3, &["press-*"]);
    let mut firmware = gateway();
    firmware.live([&live]);
    let (press, now) = (device("press-1"), Millis(1_000));
    let digest = Digest::of(&bytes);
    assert_eq!(firmware.wanted(&press, want(&bytes, 0, 512), now), [Do::Load(digest)]);
    assert_eq!(firmware.wanted(&press, want(&bytes, 512, 512), now), [], "it is being read");
    let done = firmware.loaded(digest, Some(bytes.clone()), now);
    assert_eq!(sent(&done), [("press-1".to_owned(), 512, bytes[512..1_024].to_vec())]);
    let done = firmware.wanted(&press, want(&bytes, 2_000, 500), now);
    assert_eq!(sent(&done), [("press-1".to_owned(), 2_000, bytes[2_000..].to_vec())]);

    for (who, asked) in [
        ("press-1", want(&bytes, 2_000, 501)),
        ("press-1", want(&bytes, u32::MAX, 500)),
        ("press-1", want(&other, 0, 500)),
        ("saw-1", want(&bytes, 0, 500)),
        ("unknown", want(&bytes, 0, 500)),
    ] {
        assert_eq!(firmware.wanted(&device(who), asked, now), [], "{who} {asked:?}");
    }
    assert_eq!(firmware.counters(), Counters { chunks: 2, refused: 5 });
    assert_eq!(firmware.next_deadline(), Some(now + IMAGE_IDLE));
    firmware.tick(now + IMAGE_IDLE);
    assert_eq!(firmware.next_deadline(), None, "the image has gone");
}

#[test]
fn a_device_has_firmware_and_a_function_side_by_side() {
    let (of_firmware, of_function) = (image(1, 1_000), image(2, 2_000));
    let (a, _) = manifest("a", &of_firmware, 3, &["press-*"]);
    let (mut b, _) = manifest("b", &of_function, 7, &["press-1", "saw-*"]);
    b.firmware.get_mut("press").expect("the image").kind = ImageKind::Function;
    let mut firmware = gateway();
    assert_eq!(firmware.check(&b, [&a]), Ok(()), "one of each kind");
    let changes = firmware.live([&a, &b]);
    let spots: Vec<_> = changes.iter().map(|it| (it.device.as_str(), it.kind)).collect();
    let (one, other) = (ImageKind::Firmware, ImageKind::Function);
    assert_eq!(spots, [("press-1", one), ("press-1", other), ("press-2", one), ("saw-1", other)]);
    let kinds = changes.iter().map(|it| Down::decode(&it.payload).expect("an offer").kind());
    assert_eq!(kinds.collect::<Vec<_>>(), ["offer", "function", "offer", "function"]);

    let (press, now) = (device("press-1"), Millis(1_000));
    for (bytes, app, kind, version) in [(&of_firmware, "a", one, 3), (&of_function, "b", other, 7)]
    {
        let ask = want(bytes, 500, 400);
        assert_eq!(firmware.offered(&press, ask.image), Some((app, kind, version)));
        let digest = Digest::of(bytes);
        assert_eq!(firmware.wanted(&press, ask, now), [Do::Load(digest)]);
        let done = firmware.loaded(digest, Some(bytes.clone()), now);
        assert_eq!(sent(&done), [("press-1".to_owned(), 500, bytes[500..900].to_vec())]);
    }
    let changes = firmware.live([&a]);
    let spots: Vec<_> = changes.iter().map(|it| (it.device.as_str(), it.kind)).collect();
    assert_eq!(spots, [("press-1", other), ("saw-1", other)], "only the functions go");
}

#[test]
fn who_asks_too_fast_waits_and_loses_nothing() {
    let bytes = image(1, 100_000);
    let (live, _) = manifest("a", &bytes, 3, &["*"]);
    let mut firmware = gateway();
    firmware.live([&live]);
    let (press, mut now) = (device("press-1"), Millis(50));
    firmware.wanted(&press, want(&bytes, 0, 1_000), now);
    let mut got = sent(&firmware.loaded(Digest::of(&bytes), Some(bytes.clone()), now));
    for n in 1..100 {
        let mut done = firmware.wanted(&press, want(&bytes, n * 1_000, 1_000), now);
        while done.is_empty() {
            now = firmware.next_deadline().expect("an answer is due").max(now);
            done = firmware.tick(now);
        }
        got.extend(sent(&done));
    }
    let all: Vec<u8> = got.into_iter().flat_map(|(_, _, bytes)| bytes).collect();
    assert!(all == bytes[..]);
    let took_ms = now.0 - 50;
    assert!((1_400..1_500).contains(&took_ms), "92 beyond the burst at 64 a second: {took_ms}");
}

#[test]
fn a_fleet_together_has_a_rate() {
    let bytes = image(1, 1_000);
    let (live, _) = manifest("a", &bytes, 3, &["*"]);
    let names: Vec<_> = (0..500).map(|n| device(&format!("d{n}"))).collect();
    let mut firmware = Firmware::new(names.clone(), []);
    firmware.live([&live]);
    let mut now = Millis(0);
    for name in &names {
        firmware.wanted(name, want(&bytes, 0, 100), now);
    }
    let first = firmware.loaded(Digest::of(&bytes), Some(bytes.clone()), now).len();
    assert!(first as u64 <= BURST_ALL, "{first}");
    let mut answered = first;
    while answered < names.len() {
        now = firmware.next_deadline().expect("answers are due");
        let done = firmware.tick(now).len();
        assert!(done > 0 && done as u64 <= BURST_ALL);
        answered += done;
    }
    assert!((430..=440).contains(&now.0), "{now:?}");
}

#[test]
fn large_images_get_on_by_turns() {
    let (a, b) = (image(1, 10 << 20), image(2, 10 << 20));
    let mut images = Images::default();
    let (of_a, of_b) = (Digest::of(&a), Digest::of(&b));
    let length = 10 << 20;
    assert!(images.may_load(of_a, length, Millis(0)));
    assert!(!images.may_load(of_b, length, Millis(0)), "one is read at a time");
    assert!(!images.loaded(of_b, Some(b.clone()), Millis(0)), "nobody asked");
    assert!(images.loaded(of_a, Some(a), Millis(0)));
    assert!(!images.may_load(of_b, length, Millis(4_999)));
    assert!(images.may_load(of_b, length, Millis(5_000)));
    assert!(images.get(of_a, Millis(5_000)).is_none(), "it gave way");
    assert!(
        !images.loaded(of_b, None, Millis(5_001)) && images.may_load(of_b, length, Millis(5_002))
    );
}
