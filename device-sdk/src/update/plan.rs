//! Which image to fetch: what the device keeps of an offer, and whether it takes one at all. Pure.

use device_protocol::limits::IMAGE_MAX;
use device_protocol::update::{Digest, Offer};
use ed25519_dalek::{Signature, VerifyingKey};

/// The firmware, or the function, that runs now.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// Board that it was built for: only images for the same one are taken.
    pub board: &'a str,
    /// Its version.
    pub version: u32,
    /// Versions below this one are declined.
    pub floor: u32,
    /// Ed25519 key of the author whose images are taken.
    pub author: &'a [u8; 32],
    /// SHA-256 of the image that runs, where it is known. With it the image tells what runs, without it the version: while it is
    /// written, a function comes again and again under one version.
    pub digest: Option<Digest>,
}

impl Running<'_> {
    /// Whether the image with this digest and version is the one that runs.
    pub(super) fn is(&self, digest: &Digest, version: u32) -> bool {
        self.digest.map_or(version == self.version, |own| own == *digest)
    }
}

/// An offer that the device has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// SHA-256 of the image.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u32,
    /// Its version.
    pub version: u32,
    /// Once it is confirmed, versions below this one are declined.
    pub floor: u32,
}

/// Why an offer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Decline {
    /// Built for another board.
    Board,
    /// The signature is not the author's.
    Signature,
    /// Below the floor of the image that runs or, for firmware, of one that was confirmed before.
    Floor,
    /// Longer than the place for it.
    Length,
    /// It was started once and did not confirm itself.
    TakenBack,
    /// Its bytes were wrong several times since the start.
    Damaged,
}

impl Decline {
    /// For people.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Board => "built for another board",
            Self::Signature => "the signature is not that of the author this device trusts",
            Self::Floor => "older than what runs here allows",
            Self::Length => "longer than the place for an image",
            Self::TakenBack => "it was started before and did not confirm itself",
            Self::Damaged => "its bytes were wrong several times",
        }
    }
}

/// What to do about an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This image runs.
    Runs,
    /// Not taken.
    Decline(Decline),
    /// Fetch it.
    Take(Plan),
}

/// Looks at an offer; `kept_floor` is that of images that were confirmed before, `capacity` the longest image in bytes,
/// `taken_back` the digest of the last image that did not confirm itself.
#[must_use]
pub fn decide(
    offer: &Offer<'_>,
    running: &Running<'_>,
    kept_floor: u32,
    capacity: u32,
    taken_back: Option<&Digest>,
) -> Decision {
    if offer.board != running.board {
        return Decision::Decline(Decline::Board);
    }
    if !is_signed(offer, running.author) {
        return Decision::Decline(Decline::Signature);
    }
    if running.is(&offer.digest, offer.version) {
        return Decision::Runs;
    }
    if offer.version < running.floor.max(kept_floor) {
        return Decision::Decline(Decline::Floor);
    }
    if offer.length > capacity.min(IMAGE_MAX) {
        return Decision::Decline(Decline::Length);
    }
    if taken_back == Some(&offer.digest) {
        return Decision::Decline(Decline::TakenBack);
    }
    Decision::Take(Plan::of(offer))
}

/// Whether the author signed it. Strict: no key or signature of small order passes.
fn is_signed(offer: &Offer<'_>, author: &[u8; 32]) -> bool {
    let (Ok(key), Ok(signature), Ok(signed)) =
        (VerifyingKey::from_bytes(author), Signature::from_slice(offer.signature), offer.signed())
    else {
        return false;
    };
    key.verify_strict(&signed, &signature).is_ok()
}

impl Plan {
    /// Of the image that is offered.
    pub(super) const fn of(offer: &Offer<'_>) -> Self {
        let Offer { digest, length, version, floor, .. } = *offer;
        Self { digest, length, version, floor }
    }

    /// First bytes of the digest, as requests and chunks name the image.
    #[must_use]
    pub fn image(&self) -> [u8; 8] {
        let mut image = [0; 8];
        image.copy_from_slice(&self.digest[..8]);
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    const BOARD: &str = "mps2-an385";

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    /// Beside an image of this digest, if it is known.
    fn decision_beside(
        digest: Option<Digest>,
        change: impl FnOnce(&mut Offer<'_>),
        taken_back: Option<&Digest>,
    ) -> Decision {
        let mut offer = Offer {
            digest: [1; 32],
            length: 100,
            board: BOARD,
            version: 5,
            floor: 4,
            signature: &[],
        };
        let signature = key().sign(&offer.signed().unwrap()).to_bytes();
        offer.signature = &signature;
        change(&mut offer);
        let author = key().verifying_key().to_bytes();
        let running = Running { board: BOARD, version: 4, floor: 3, author: &author, digest };
        decide(&offer, &running, 0, 1_000, taken_back)
    }

    fn decision(change: impl FnOnce(&mut Offer<'_>), taken_back: Option<&Digest>) -> Decision {
        decision_beside(None, change, taken_back)
    }

    fn signed_anew(offer: &mut Offer<'_>) {
        let signature = key().sign(&offer.signed().unwrap()).to_bytes();
        offer.signature = Box::leak(Box::new(signature));
    }

    #[test]
    fn a_signed_offer_for_this_board_is_taken() {
        let plan = Plan { digest: [1; 32], length: 100, version: 5, floor: 4 };
        assert_eq!(decision(|_| (), None), Decision::Take(plan));
        assert_eq!(decision(|_| (), Some(&[2; 32])), Decision::Take(plan));
    }

    #[test]
    fn whatever_was_changed_after_the_signature_is_declined() {
        let changes: [fn(&mut Offer<'_>); 4] = [
            |offer| offer.digest[3] ^= 1,
            |offer| offer.length += 1,
            |offer| offer.version += 1,
            |offer| offer.floor -= 1,
        ];
        for change in changes {
            assert_eq!(decision(change, None), Decision::Decline(Decline::Signature));
        }
        let unsigned = |offer: &mut Offer<'_>| offer.signature = &[0; 64];
        assert_eq!(decision(unsigned, None), Decision::Decline(Decline::Signature));
    }

    #[test]
    fn what_does_not_fit_is_declined_with_its_reason() {
        let board = |offer: &mut Offer<'_>| offer.board = "other";
        assert_eq!(decision(board, None), Decision::Decline(Decline::Board));
        let old = |offer: &mut Offer<'_>| {
            offer.version = 2;
            signed_anew(offer);
        };
        assert_eq!(decision(old, None), Decision::Decline(Decline::Floor));
        let long = |offer: &mut Offer<'_>| {
            offer.length = 1_001;
            signed_anew(offer);
        };
        assert_eq!(decision(long, None), Decision::Decline(Decline::Length));
        assert_eq!(decision(|_| (), Some(&[1; 32])), Decision::Decline(Decline::TakenBack));
        let same = |offer: &mut Offer<'_>| {
            offer.version = 4;
            signed_anew(offer);
        };
        assert_eq!(decision(same, None), Decision::Runs);
    }

    #[test]
    fn where_the_digest_of_what_runs_is_known_it_tells_and_not_the_version() {
        let same_version = |offer: &mut Offer<'_>| {
            offer.version = 4;
            signed_anew(offer);
        };
        let plan = Plan { digest: [1; 32], length: 100, version: 4, floor: 4 };
        assert_eq!(decision_beside(Some([1; 32]), |_| (), None), Decision::Runs);
        assert_eq!(decision_beside(Some([2; 32]), same_version, None), Decision::Take(plan));
        let declined = Decision::Decline(Decline::TakenBack);
        assert_eq!(decision_beside(Some([2; 32]), same_version, Some(&[1; 32])), declined);
    }
}
