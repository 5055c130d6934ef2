use proptest::prelude::*;

use super::*;
use crate::manifest::{FORMAT, Function};

const KEY_PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";

fn key() -> SigningKey {
    SigningKey::from_pem(KEY_PEM).unwrap()
}

pub(crate) fn manifest(artifact: &[u8]) -> Manifest {
    let function = serde_json::json!({"artifact": Digest::of(artifact), "size": artifact.len()});
    let function: Function = serde_json::from_value(function).unwrap();
    Manifest {
        format: FORMAT,
        app: "a".into(),
        version: "1".into(),
        sequence: 5,
        floor: 2,
        functions: [("f".to_owned(), function)].into(),
        triggers: std::collections::BTreeMap::new(),
        records: std::collections::BTreeMap::new(),
        firmware: std::collections::BTreeMap::new(),
        agent: None,
        system: None,
    }
}

fn authors() -> AuthorKeys {
    [key().public()].into_iter().collect()
}

#[test]
fn a_known_author_is_believed() {
    let signed = SignedManifest::sign(&manifest(b"wasm"), &key()).unwrap();
    let again = SignedManifest::from_bytes(&signed.to_bytes()).unwrap();
    let revision = again.verify_as(signed.digest(), &authors()).unwrap();
    assert_eq!(revision.digest(), Digest::of(&signed.manifest));
    assert_eq!(revision.manifest(), &manifest(b"wasm"));
    assert_eq!(revision.key(), key().public().id());
    assert!(revision.check_artifact(Digest::of(b"wasm"), b"wasm").is_ok());
    let changed = revision.check_artifact(Digest::of(b"wasm"), b"wasn");
    assert!(matches!(changed, Err(RevisionError::Artifact { .. })));
    let foreign = revision.check_artifact(Digest::of(b"else"), b"else");
    assert!(matches!(foreign, Err(RevisionError::Artifact { .. })));
}

#[test]
fn each_refusal_has_its_reason() {
    let signed = SignedManifest::sign(&manifest(b"wasm"), &key()).unwrap();
    let nobody = AuthorKeys::default();
    let unknown = signed.verify(&nobody);
    assert_eq!(unknown, Err(RevisionError::UnknownKey { key: signed.key, known: 0 }));

    let mut tampered = signed.clone();
    let at = tampered.manifest.windows(7).position(|w| w == b"\"size\":").unwrap();
    tampered.manifest[at + 7] = b'9';
    let bad = RevisionError::BadSignature { key: signed.key };
    assert_eq!(tampered.verify(&authors()), Err(bad.clone()));

    let mut cut = signed.clone();
    cut.signature.pop();
    assert_eq!(cut.verify(&authors()), Err(bad));

    let other = Digest::of(b"other");
    let mismatch = signed.verify_as(other, &authors()).unwrap_err();
    assert_eq!(
        mismatch,
        RevisionError::DigestMismatch { expected: other, actual: signed.digest() }
    );

    let bytes = signed.to_bytes();
    for len in 0..bytes.len() {
        let cut = SignedManifest::from_bytes(&bytes[..len]);
        assert_eq!(cut, Err(RevisionError::Malformed), "cut to {len}");
    }
}

#[test]
fn the_signature_is_bound_to_its_purpose() {
    let bytes = manifest(b"wasm").to_bytes();
    let bare =
        SignedManifest { signature: key().sign(&bytes), manifest: bytes, key: key().public().id() };
    assert!(matches!(bare.verify(&authors()), Err(RevisionError::BadSignature { .. })));
}

#[test]
fn a_bad_manifest_is_neither_signed_nor_verified() {
    let mut bad = manifest(b"wasm");
    bad.sequence = 0;
    let unsigned = SignedManifest::sign(&bad, &key());
    assert!(matches!(unsigned, Err(RevisionError::Manifest(_))));
    let bytes = bad.to_bytes();
    let forced = SignedManifest {
        signature: key().sign(&message(&bytes)),
        manifest: bytes,
        key: key().public().id(),
    };
    assert!(matches!(forced.verify(&authors()), Err(RevisionError::Manifest(_))));
}

#[test]
fn images_for_devices_are_signed_on_their_own_by_the_same_author() {
    let mut with_image = manifest(b"wasm");
    with_image.functions.clear();
    with_image.firmware = [(
        "press".to_owned(),
        crate::manifest::Firmware {
            kind: crate::manifest::ImageKind::Firmware,
            artifact: Digest::of(b"image"),
            size: 5,
            board: "board".to_owned(),
            version: 3,
            floor: 2,
            devices: vec!["press-*".to_owned()],
            signature: String::new(),
        },
    )]
    .into();
    let signed = SignedManifest::sign(&with_image, &key()).unwrap();
    let revision = signed.verify(&authors()).unwrap();
    assert!(revision.check_artifact(Digest::of(b"image"), b"image").is_ok());
    let image = &revision.manifest().firmware["press"];
    let mut room = [0; 64];
    let offer = image.offer(&mut room).unwrap();
    assert!(key().public().verify(&offer.signed().unwrap(), offer.signature));

    // The manifest is signed rightly, the image by nobody, by another author, or as another version.
    let other = SigningKey::generate().unwrap();
    let unsigned: fn(&mut Manifest, &SigningKey) = |_, _| ();
    let by_other: fn(&mut Manifest, &SigningKey) =
        |manifest, other| manifest.firmware.values_mut().for_each(|image| image.sign(other));
    let raised: fn(&mut Manifest, &SigningKey) = |manifest, _| {
        manifest.firmware.values_mut().for_each(|image| {
            image.sign(&key());
            image.version += 1;
        });
    };
    for change in [unsigned, by_other, raised] {
        let mut manifest = with_image.clone();
        change(&mut manifest, &other);
        let bytes = manifest.to_bytes();
        let signature = key().sign(&message(&bytes));
        let forced = SignedManifest { manifest: bytes, key: key().public().id(), signature };
        let error = forced.verify(&authors()).unwrap_err();
        assert!(matches!(error, RevisionError::BadFirmwareSignature { .. }), "{error}");
    }
}

#[test]
fn the_floor_rules_out_what_is_below_it() {
    let signed = SignedManifest::sign(&manifest(b"wasm"), &key()).unwrap();
    let revision = signed.verify(&authors()).unwrap();
    assert_eq!(revision.check_floor(5), Ok(()));
    let below = revision.check_floor(6);
    assert_eq!(below, Err(RevisionError::BelowFloor { sequence: 5, floor: 6 }));
}

#[test]
fn keys_round_trip_as_text() {
    let new = SigningKey::generate().unwrap();
    let again = SigningKey::from_pem(&new.to_pem()).unwrap();
    assert_eq!(again.public(), new.public());
    assert_eq!(new.public().to_string().parse(), Ok(new.public()));
    assert_eq!("ed25519:AAAA".parse::<AuthorKey>(), Err(KeyError::Public));
    assert_eq!(SigningKey::from_pem("").err(), Some(KeyError::Private));
    // RFC 8032, 7.1, test 1.
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let mut raw = [0; 32];
    hex::decode_to_slice(public, &mut raw).unwrap();
    assert_eq!(key().public(), AuthorKey::from_raw(raw));
    assert!(!format!("{new:?}").contains("PRIVATE"));
}

proptest! {
    #[test]
    fn no_changed_byte_passes(at in 0_usize..2_000, flip in 1_u8..) {
        let signed = SignedManifest::sign(&manifest(b"wasm"), &key()).unwrap();
        let mut bytes = signed.to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(changed) = SignedManifest::from_bytes(&bytes) {
            prop_assert!(changed.verify(&authors()).is_err());
        }
    }
}
