use proptest::prelude::*;

use super::*;
use crate::manifest::{FORMAT, Function};
use crate::revision::SigningKey;

struct Fixture {
    authors: AuthorKeys,
    signed: SignedManifest,
    file: Vec<u8>,
}

fn fixture() -> Fixture {
    let function = |wasm: &[u8]| -> Function {
        let json = serde_json::json!({"artifact": Digest::of(wasm), "size": wasm.len()});
        serde_json::from_value(json).unwrap()
    };
    let manifest = Manifest {
        format: FORMAT,
        app: "a".into(),
        version: "1".into(),
        sequence: 1,
        floor: 0,
        functions: [("f".to_owned(), function(b"one")), ("g".to_owned(), function(b"two"))].into(),
        triggers: BTreeMap::new(),
        records: BTreeMap::new(),
        firmware: BTreeMap::new(),
        agent: None,
        system: None,
    };
    let key = SigningKey::generate().unwrap();
    let signed = SignedManifest::sign(&manifest, &key).unwrap();
    let artifacts =
        [b"one", b"two"].map(|wasm| (Digest::of(wasm), wasm.to_vec())).into_iter().collect();
    let file = Bundle::write(&signed, &artifacts).unwrap();
    Fixture { authors: [key.public()].into_iter().collect(), signed, file }
}

#[test]
fn a_bundle_round_trips() {
    let fixture = fixture();
    let bundle = Bundle::parse(&fixture.file).unwrap();
    let revision = bundle.verify(&fixture.authors).unwrap();
    assert_eq!(revision.digest(), fixture.signed.digest());
    assert_eq!(bundle.artifacts[&Digest::of(b"one")], b"one");
}

#[test]
fn every_truncation_is_refused() {
    let fixture = fixture();
    for len in 0..fixture.file.len() {
        assert!(Bundle::parse(&fixture.file[..len]).is_err(), "cut to {len}");
    }
    let longer = [&fixture.file[..], b"x"].concat();
    assert_eq!(Bundle::parse(&longer), Err(BundleError::Trailing(1)));
}

#[test]
fn foreign_files_are_named_so() {
    assert_eq!(Bundle::parse(b"\0asm\x01\0\0\0 and so on"), Err(BundleError::NotABundle));
    assert_eq!(Bundle::parse(b"HOLMBNDL\x07"), Err(BundleError::Format(7)));
}

#[test]
fn lengths_are_not_believed() {
    let mut head = b"HOLMBNDL\x01".to_vec();
    head.extend_from_slice(&u32::MAX.to_le_bytes());
    let error = Bundle::parse(&head);
    assert!(matches!(error, Err(BundleError::Bound { what: "the signed manifest", .. })));
    let mut fixture = fixture();
    let at = fixture.file.len() - 3 - 8;
    fixture.file[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    let error = Bundle::parse(&fixture.file);
    assert!(matches!(error, Err(BundleError::Bound { what: "an artifact", .. })));
}

#[test]
fn exactly_the_named_artifacts() {
    let fixture = fixture();
    let artifact = |wasm: &[u8]| (Digest::of(wasm), wasm.to_vec());
    let lacking = Bundle::write(&fixture.signed, &[artifact(b"one")].into());
    assert_eq!(lacking, Err(BundleError::Missing(Digest::of(b"two"))));
    let all = [artifact(b"one"), artifact(b"two"), artifact(b"three")].into();
    let unnamed = Bundle::write(&fixture.signed, &all);
    assert_eq!(unnamed, Err(BundleError::Unnamed(Digest::of(b"three"))));
    let mut bundle = Bundle::parse(&fixture.file).unwrap();
    bundle.artifacts.remove(&Digest::of(b"one"));
    let lacking = bundle.verify(&fixture.authors);
    assert_eq!(lacking, Err(BundleError::Missing(Digest::of(b"one"))));
}

proptest! {
    #[test]
    fn no_changed_byte_passes(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut fixture = fixture();
        let at = at.index(fixture.file.len());
        fixture.file[at] ^= flip;
        if let Ok(bundle) = Bundle::parse(&fixture.file) {
            prop_assert!(bundle.verify(&fixture.authors).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Bundle::parse(&bytes);
        let _ = Bundle::parse(&[b"HOLMBNDL\x01", &bytes[..]].concat());
    }
}
