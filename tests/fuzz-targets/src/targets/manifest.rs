//! Manifests and bundles.

use sync_protocol::bundle::Bundle;
use sync_protocol::manifest::Manifest;

/// What is accepted is canonical and without a problem; what is refused says why in a text.
pub(super) fn run_manifest(bytes: &[u8]) {
    match Manifest::from_bytes(bytes) {
        Ok(manifest) => {
            assert!(manifest.problems().is_empty());
            assert_eq!(manifest.to_bytes(), bytes, "one meaning has one form");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // Unlike the bytes of a network, those of a build need not be canonical: problems are reported
    // for any shape that can be read.
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let problems = manifest.problems();
        assert!(problems.iter().all(|problem| !problem.path.is_empty()), "{problems:?}");
    }
}

/// What is read as a bundle is written as the same bytes, where its manifest is good.
pub(super) fn run_bundle(bytes: &[u8]) {
    let bundle = match Bundle::parse(bytes) {
        Ok(bundle) => bundle,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(bundle.verify(&[].into_iter().collect()).is_err(), "nobody signed this");
    let owned = bundle.artifacts.iter().map(|(digest, bytes)| (*digest, bytes.to_vec())).collect();
    if let Ok(written) = Bundle::write(&bundle.signed, &owned) {
        assert_eq!(written, bytes, "one bundle has one form");
    }
}
