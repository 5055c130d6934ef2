//! TLS_AES_128_GCM_SHA256, with a look at what was decrypted before the protocol code reads it.
//!
//! The crate believes in well-formed records once they decrypt: an empty one, and a handshake message on an open
//! connection that is not a session ticket, make it panic; the length of a handshake message it does not read at all.
//! Whoever speaks with the device can send those, in the handshake even without a certificate. So the cipher refuses them.
//!
//! The cipher is made anew for each record and can keep nothing; whether the handshake is over it must read from the
//! record. The gate writes it there: into the version of the header, which is always 3.3 on the wire.

use aes_gcm::Aes128Gcm;
use aes_gcm::aead::consts::{U0, U12, U16, U54};
use aes_gcm::aead::{
    AeadCore, AeadInPlace, Buffer, Error, Key, KeyInit, KeySizeUser, Nonce, Result, Tag,
};
use embedded_tls::TlsCipherSuite;
use sha2::Sha256;

/// The version of a record on the wire (RFC 8446, 5.1).
pub(super) const WIRE: [u8; 2] = [3, 3];
/// What the gate makes of it once the handshake is over.
pub(super) const WIRE_OPEN: [u8; 2] = [3, 4];

/// See the module.
pub(super) struct Suite;

impl TlsCipherSuite for Suite {
    const CODE_POINT: u16 = 0x1301;
    type Cipher = Checked;
    type KeyLen = U16;
    type IvLen = U12;
    type Hash = Sha256;
    type LabelBufferSize = U54;
}

/// AES-128-GCM that refuses what must not come.
pub(super) struct Checked(Aes128Gcm);

impl KeySizeUser for Checked {
    type KeySize = U16;
}

impl KeyInit for Checked {
    fn new(key: &Key<Self>) -> Self {
        Self(Aes128Gcm::new(key))
    }
}

impl AeadCore for Checked {
    type NonceSize = U12;
    type TagSize = U16;
    type CiphertextOverhead = U0;
}

impl AeadInPlace for Checked {
    fn encrypt_in_place_detached(
        &self,
        nonce: &Nonce<Self>,
        header: &[u8],
        bytes: &mut [u8],
    ) -> Result<Tag<Self>> {
        self.0.encrypt_in_place_detached(nonce, header, bytes)
    }

    fn decrypt_in_place_detached(
        &self,
        nonce: &Nonce<Self>,
        header: &[u8],
        bytes: &mut [u8],
        tag: &Tag<Self>,
    ) -> Result<()> {
        self.0.decrypt_in_place_detached(nonce, header, bytes, tag)
    }

    fn decrypt_in_place(
        &self,
        nonce: &Nonce<Self>,
        header: &[u8],
        record: &mut dyn Buffer,
    ) -> Result<()> {
        let &[kind, major, minor, high, low] = header else { return Err(Error) };
        let open = [major, minor] == WIRE_OPEN;
        self.0.decrypt_in_place(nonce, &[kind, WIRE[0], WIRE[1], high, low], record)?;
        if is_sound(record.as_ref(), open) { Ok(()) } else { Err(Error) }
    }
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const SESSION_TICKET: u8 = 4;
const ENCRYPTED_EXTENSIONS: u8 = 8;
const CERTIFICATE: u8 = 11;
const CERTIFICATE_REQUEST: u8 = 13;
const CERTIFICATE_VERIFY: u8 = 15;
const FINISHED: u8 = 20;

/// Whether a decrypted record (content, its type, zeros) is one that may come.
fn is_sound(record: &[u8], open: bool) -> bool {
    let Some(last) = record.iter().rposition(|byte| *byte != 0) else { return false };
    let content = &record[..last];
    match record[last] {
        APPLICATION_DATA => open,
        ALERT => content.len() == 2,
        HANDSHAKE => are_messages(content, open),
        _ => false,
    }
}

/// Whether `rest` is one or more whole handshake messages that may come.
fn are_messages(mut rest: &[u8], open: bool) -> bool {
    loop {
        let Some((&[kind, a, b, c], after)) = rest.split_first_chunk() else { return false };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some((body, after)) = after.split_at_checked(length) else { return false };
        let may_come = match kind {
            SESSION_TICKET => open,
            FINISHED => !open && length == 32 && after.is_empty(),
            _ => !open && is_whole(kind, body),
        };
        if !may_come || after.is_empty() {
            return may_come;
        }
        rest = after;
    }
}

/// Whether the lengths within a message of the handshake add up to its own.
fn is_whole(kind: u8, body: &[u8]) -> bool {
    let mut fields = Fields(body);
    let read = match kind {
        ENCRYPTED_EXTENSIONS => fields.skip(2),
        CERTIFICATE => fields.skip(1).and_then(|()| fields.skip(3)),
        CERTIFICATE_REQUEST => fields.skip(1).and_then(|()| fields.skip(2)),
        CERTIFICATE_VERIFY => fields.take(2).and_then(|_| fields.skip(2)),
        _ => None,
    };
    read.is_some() && fields.0.is_empty()
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    /// Reads a field that is preceded by its length in `bytes` bytes.
    fn skip(&mut self, bytes: usize) -> Option<()> {
        let length = self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        self.take(length).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_there_passes() {
        let ticket = [SESSION_TICKET, 0, 0, 1, 9, HANDSHAKE, 0, 0];
        assert!(is_sound(&ticket, true) && !is_sound(&ticket, false));
        let finished = |after: &[u8]| {
            let mut record = [0; 64];
            record[..4].copy_from_slice(&[FINISHED, 0, 0, 32]);
            record[36..36 + after.len()].copy_from_slice(after);
            record
        };
        assert!(is_sound(&finished(&[HANDSHAKE]), false));
        assert!(!is_sound(&finished(&[HANDSHAKE]), true));
        assert!(!is_sound(&finished(&[ENCRYPTED_EXTENSIONS, 0, 0, 2, 0, 0, HANDSHAKE]), false));
        assert!(is_sound(&[1, 2, APPLICATION_DATA], true));
        assert!(
            !is_sound(&[1, 2, APPLICATION_DATA], false),
            "no data before the handshake is over"
        );
        assert!(is_sound(&[APPLICATION_DATA, 0], true), "padding alone is allowed");
        for empty in [&[][..], &[0], &[0; 300]] {
            assert!(!is_sound(empty, true) && !is_sound(empty, false));
        }
    }

    #[test]
    fn lengths_must_add_up() {
        for sound in [
            &[ENCRYPTED_EXTENSIONS, 0, 0, 2, 0, 0, HANDSHAKE][..],
            &[CERTIFICATE, 0, 0, 4, 0, 0, 0, 0, HANDSHAKE],
        ] {
            assert!(is_sound(sound, false));
        }
        for unsound in [
            &[ENCRYPTED_EXTENSIONS, 0, 0, 3, 0, 0, 0, HANDSHAKE][..],
            &[ENCRYPTED_EXTENSIONS, 0, 0, 2, 0, 1, HANDSHAKE],
            &[CERTIFICATE, 0, 0, 4, 0, 0, 0, 1, HANDSHAKE],
            &[CERTIFICATE, 0, 0, 200, 0, 0, 0, 0, HANDSHAKE],
            &[24, 0, 0, 1, 0, HANDSHAKE],
            &[FINISHED, 0, 0, 0, HANDSHAKE],
            &[HANDSHAKE],
        ] {
            assert!(!is_sound(unsound, false), "{unsound:?}");
        }
    }
}
