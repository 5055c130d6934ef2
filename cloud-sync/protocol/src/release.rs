//! The signature of a release: an Ed25519 signature over the bytes of its `SHA256SUMS`, which
//! `sha256sum -c` and `openssl pkeyutl -verify -rawin` read without Holm.
//!
//! The file begins with [`HEAD`], so that no signature of a revision or of a device's image can
//! pass for one of a release, nor the other way round. To `sha256sum` that line is a comment.

use crate::revision::{AuthorKey, SigningKey};

/// How `SHA256SUMS` of a release begins.
pub const HEAD: &str = "# holm release\n";

/// A text that is not `SHA256SUMS` of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checksums of a release begin with a line `# holm release`")]
pub struct NotARelease;

/// Signs the text of `SHA256SUMS`; 64 bytes.
///
/// # Errors
/// It does not begin with [`HEAD`].
pub fn sign(sums: &str, key: &SigningKey) -> Result<Vec<u8>, NotARelease> {
    if !sums.starts_with(HEAD) {
        return Err(NotARelease);
    }
    Ok(key.sign(sums.as_bytes()))
}

/// Whether `signature` is the key's for this text of `SHA256SUMS`.
#[must_use]
pub fn is_signed(sums: &str, signature: &[u8], key: &AuthorKey) -> bool {
    sums.starts_with(HEAD) && key.verify(sums.as_bytes(), signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_signed_and_nothing_else_is() {
        let key = SigningKey::generate().unwrap();
        let sums = format!("{HEAD}00  agent\n");
        let signature = sign(&sums, &key).unwrap();
        assert_eq!(signature.len(), 64);
        assert!(is_signed(&sums, &signature, &key.public()));
        let other = sums.replace("00", "01");
        assert!(!is_signed(&other, &signature, &key.public()));
        let stranger = SigningKey::generate().unwrap().public();
        assert!(!is_signed(&sums, &signature, &stranger));
        assert_eq!(sign("holm revision", &key), Err(NotARelease));
        let signed_elsewhere = key.sign(b"holm revision");
        assert!(!is_signed("holm revision", &signed_elsewhere, &key.public()));
    }
}
