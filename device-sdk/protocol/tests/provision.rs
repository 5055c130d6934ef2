//! The provisioning blob: what is written is read back, byte for byte as it always was; what is torn does not count.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a panic is how a test says no"
)]

use device_protocol::Error;
use device_protocol::provision::{
    Bad, COPY_BYTES, Credential, Gateway, IMAGE_BYTES, Provision, decode, encode, encode_image,
    newest,
};
use heapless::Vec;
use proptest::prelude::*;

fn gateways<'a>(list: &[Gateway<'a>]) -> Vec<Gateway<'a>, 3> {
    Vec::from_slice(list).unwrap()
}

fn press_7<'a>() -> Provision<'a> {
    Provision {
        device: "press-7",
        issued_unix_s: 1_790_000_000,
        gateways: gateways(&[Gateway { host: "barn-3.local", port: 8883 }]),
        server_name: "barn-3.local",
        credential: Credential::Certificate {
            gateway_ca: &[0x30, 1],
            certificate: &[0x30, 2],
            key: [7; 32],
        },
        author_key: Some([9; 32]),
    }
}

fn copy(provision: &Provision<'_>, generation: u32) -> std::vec::Vec<u8> {
    let mut bytes = vec![0xFF; COPY_BYTES];
    let length = encode(provision, generation, &mut bytes).unwrap();
    assert!(length < COPY_BYTES);
    bytes
}

/// A change here is a change of the format: it needs another version.
#[test]
fn golden_vector() {
    let mut expected = b"HLMP\x01\x05\0\0\0\x72\0\x07press-7\x80\xf7\xc4\xd5\x06".to_vec();
    expected.extend(b"\x01\x0cbarn-3.local\xb3\x45\x0cbarn-3.local\0\x02\x30\x01\x02\x30\x02");
    expected.extend([7; 32]);
    expected.push(1);
    expected.extend([9; 32]);
    let bytes = copy(&press_7(), 5);
    assert_eq!(bytes[..expected.len()], expected);
    assert_eq!(bytes[expected.len()..expected.len() + 4], GOLDEN_SUM.to_le_bytes());
    assert!(bytes[expected.len() + 4..].iter().all(|byte| *byte == 0xFF));
}

/// CRC-32C of the golden vector, computed once by another implementation.
const GOLDEN_SUM: u32 = 0xC7B9_38ED;

#[test]
fn each_credential_comes_back() {
    let credentials = [
        press_7().credential,
        Credential::Token { gateway_ca: &[1; 1024], token: "secret-token" },
        Credential::Psk { identity: b"press-7", key: &[3; 16] },
        Credential::Plain { token: "" },
    ];
    for credential in credentials {
        let provision = Provision { credential, author_key: None, ..press_7() };
        assert_eq!(decode(&copy(&provision, 1)), Ok((provision.clone(), 1)));
        let shown = format!("{provision:?}");
        assert!(!shown.contains("secret-token") && !shown.contains("7, 7, 7"), "{shown}");
    }
}

#[test]
fn the_newer_whole_copy_counts() {
    let (old, new) = (copy(&press_7(), 3), copy(&Provision { device: "press-8", ..press_7() }, 4));
    for (copies, place) in [([&old[..], &new[..]], 1), ([&new, &old], 0)] {
        let found = newest(copies).unwrap();
        assert_eq!((found.provision.device, found.generation, found.copy), ("press-8", 4, place));
        assert_eq!(found.next(), Some((1 - place, 5)));
    }
    assert_eq!(newest([&[0xFF; 64], &old]).unwrap().generation, 3);
    assert_eq!(newest([&[0xFF; 64], &[0; 64]]), Err([Bad::Blank, Bad::NotACopy]));
}

/// Wherever the power is cut while a copy is written over another, the other one counts, until the new one is whole.
#[test]
fn a_torn_write_leaves_the_other_copy() {
    let old = copy(&press_7(), 3);
    let new = copy(&Provision { device: "press-8", ..press_7() }, 4);
    let whole = encode(&press_7(), 4, &mut [0; COPY_BYTES]).unwrap();
    for before in [copy(&press_7(), 2), vec![0xFF; COPY_BYTES]] {
        for cut in 0..=whole {
            let mut torn = vec![0xFF; COPY_BYTES];
            torn[..cut].copy_from_slice(&new[..cut]);
            let expected = if cut == whole { 4 } else { 3 };
            assert_eq!(newest([&old, &torn]).unwrap().generation, expected, "cut at {cut}");
            let mut over = before.clone();
            over[..cut].copy_from_slice(&new[..cut]);
            let found = newest([&over, &old]).unwrap();
            assert!(found.generation == 3 || cut >= whole - 4 || cut == 0, "cut at {cut}");
        }
    }
}

#[test]
fn an_image_holds_it_twice() {
    let mut image = [0; IMAGE_BYTES];
    encode_image(&press_7(), 1, &mut image).unwrap();
    let (first, second) = image.split_at(COPY_BYTES);
    assert_eq!(decode(first), Ok((press_7(), 2)));
    assert_eq!(decode(second), Ok((press_7(), 1)));
    assert_eq!(newest([first, second]).unwrap().next(), Some((1, 3)));
}

#[test]
fn bounds_and_other_versions_are_refused() {
    let mut out = [0; COPY_BYTES];
    let refused =
        |provision: &Provision<'_>| encode(provision, 1, &mut [0; COPY_BYTES]).unwrap_err();
    let long = [0; 1025];
    let token = |gateway_ca, token| Provision {
        credential: Credential::Token { gateway_ca, token },
        ..press_7()
    };
    assert_eq!(refused(&token(&long, "t")), Error::TooLong);
    assert_eq!(refused(&token(&[1], "")), Error::Malformed);
    assert_eq!(refused(&Provision { device: "a/b", ..press_7() }), Error::Name);
    assert_eq!(refused(&Provision { gateways: Vec::new(), ..press_7() }), Error::Malformed);
    let port_0 = gateways(&[Gateway { host: "a", port: 0 }]);
    assert_eq!(refused(&Provision { gateways: port_0, ..press_7() }), Error::Malformed);
    let psk = Credential::Psk { identity: b"a", key: &[0; 15] };
    assert_eq!(refused(&Provision { credential: psk, ..press_7() }), Error::Malformed);
    assert_eq!(encode(&press_7(), 1, &mut out[..100]), Err(Error::NoRoom));
    let mut other = copy(&press_7(), 1);
    other[4] = 2;
    assert_eq!(decode(&other), Err(Bad::Version(2)));
}

/// The largest that the bounds allow fits.
#[test]
fn the_largest_fits_into_a_copy() {
    let (host, certificate) = ("h".repeat(64), [0x30; 1024]);
    let all = [Gateway { host: &host, port: u16::MAX }; 3];
    let largest = Provision {
        device: &host,
        issued_unix_s: u64::MAX,
        gateways: gateways(&all),
        server_name: &host,
        credential: Credential::Certificate {
            gateway_ca: &certificate,
            certificate: &certificate,
            key: [0xFF; 32],
        },
        author_key: Some([0xFF; 32]),
    };
    assert_eq!(decode(&copy(&largest, u32::MAX)), Ok((largest, u32::MAX)));
}

/// With a right checksum an overlong length is still refused: there is one way to write a value.
#[test]
fn what_is_not_canonical_is_refused() {
    let bytes = copy(&press_7(), 1);
    let body_length = usize::from(u16::from_le_bytes([bytes[9], bytes[10]]));
    let mut body = vec![0x87, 0x00];
    body.extend(&bytes[12..11 + body_length]);
    let mut other = bytes[..9].to_vec();
    other.extend(u16::try_from(body.len()).unwrap().to_le_bytes());
    other.extend(body);
    let sum = crc32c::crc32c(&other);
    other.extend(sum.to_le_bytes());
    assert_eq!(decode(&other), Err(Bad::Body(Error::Malformed)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn a_changed_bit_is_seen(at in 0usize..1000, bit in 0u8..8) {
        let mut bytes = copy(&press_7(), 1);
        let length = encode(&press_7(), 1, &mut [0; COPY_BYTES]).unwrap();
        bytes[at % length] ^= 1 << bit;
        prop_assert!(decode(&bytes).is_err());
    }

    /// Also where the checksum is made to fit.
    #[test]
    fn a_changed_body_with_a_right_sum_never_panics(at in 11usize..120, byte in any::<u8>()) {
        let mut bytes = copy(&press_7(), 1);
        let end = encode(&press_7(), 1, &mut [0; COPY_BYTES]).unwrap() - 4;
        bytes[at.min(end - 1)] = byte;
        let sum = crc32c::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_le_bytes());
        if let Ok((provision, generation)) = decode(&bytes) {
            prop_assert_eq!(&copy(&provision, generation)[..end + 4], &bytes[..end + 4]);
        }
    }
}
