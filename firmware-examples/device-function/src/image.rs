//! The device image: a function compiled for the interpreter, with what it may use and do, signed.
//!
//! `sync_protocol::DeviceImage` writes it and describes its layout. Nothing of it is believed, and
//! none of it beyond three numbers read, before the signature is verified.
//!
//! # Invariants
//! - An [`Image`] is made by [`Image::verify`] and by nothing else: its bytes are those that the
//!   owner of a pinned key signed.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Release of the interpreter. wasmtime itself compares the major number only.
pub const WASMTIME_VERSION: &str = "48.0.8";
/// What a function has to be compiled for, as a gateway's offers name it in the place of a board.
pub const PLATFORM: &str = "pulley32 wasmtime 48.0.8";

const MAGIC: &[u8; 16] = b"holm device fn\0\0";
const FORMAT: u32 = 2;
/// Magic, format, length of the image and length of the header.
const PREFIX_BYTES: usize = 28;
/// It is decoded into the heap.
const HEADER_BYTES_MAX: usize = 8 << 10;
const SIGNATURE_BYTES: usize = 64;
/// The code begins at a multiple of this from the image's own beginning, which lies at one too.
const ALIGN: usize = 64;

/// What stands before the code.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Release of the compiler; the interpreter must be the same.
    pub wasmtime: String,
    /// `app/function`.
    pub function: String,
    /// Order of the app's revisions: an update has a greater one.
    pub sequence: u64,
    /// Revisions below this one are not taken any more once this image has proved itself.
    pub floor: u64,
    /// SHA-256 of the component that gateways run.
    pub component: [u8; 32],
    /// SHA-256 of the core module inside it that was compiled.
    pub module: [u8; 32],
    /// Bounds of an attempt.
    pub limits: Limits,
    /// What it may do.
    pub grants: Grants,
}

impl Header {
    /// Version as offers have it: of `major.minor.patch` 10, 11 and 11 bits (`sync_protocol::device_image`).
    #[must_use]
    pub fn offer_version(&self) -> u32 {
        offer_version(self.sequence)
    }

    /// Floor as offers have it.
    #[must_use]
    pub fn offer_floor(&self) -> u32 {
        offer_version(self.floor)
    }
}

/// A sequence has 16 bits for each part. One that is too large to be offered counts as the largest.
fn offer_version(sequence: u64) -> u32 {
    let part = |at: u32, bits: u32| {
        let part = u32::try_from(sequence >> at & 0xffff).unwrap_or(u32::MAX);
        (part < 1 << bits).then_some(part)
    };
    let version = || Some(part(32, 10)? << 22 | part(16, 11)? << 11 | part(0, 11)?);
    version().filter(|_| sequence >> 48 == 0).unwrap_or(u32::MAX)
}

/// Bounds of an attempt, each in bytes unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Limits {
    /// Linear memory.
    pub memory: u32,
    /// Linear memory that the module begins with.
    pub memory_initial: u32,
    /// Call stack of the interpreter; the function's own stack lies in linear memory.
    pub call_stack: u32,
    /// Fuel: about one unit a WebAssembly instruction.
    pub fuel: u64,
    /// Number of publishes.
    pub publishes: u32,
    /// All publishes.
    pub publish_bytes: u32,
    /// Number of telemetry records.
    pub records: u32,
    /// All telemetry records.
    pub record_bytes: u32,
    /// All log lines.
    pub log_bytes: u32,
    /// State written by one attempt.
    pub state_write_bytes: u32,
    /// State kept in all.
    pub state_bytes: u32,
}

impl Limits {
    /// Heap that an attempt can need beside linear memory and call stack: what it may collect,
    /// with as much again for the frames of many small parts.
    pub(crate) fn effect_bytes(&self) -> u64 {
        let all = [self.publish_bytes, self.record_bytes, self.log_bytes, self.state_write_bytes];
        2 * all.into_iter().map(u64::from).sum::<u64>() + 2 * u64::from(self.state_bytes)
    }
}

/// What a function may do; what is not here ends the attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Grants {
    /// Topic filters that it may publish to.
    pub publish: Vec<String>,
    /// Series that it may record; `*` stands for all.
    pub record: Vec<String>,
    /// Whether it has state.
    pub state: bool,
    /// What `config` answers.
    pub config: Vec<(String, String)>,
}

/// Why bytes are not an image to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Something else altogether.
    NotAnImage,
    /// A later format.
    Format(u32),
    /// It ends early.
    Truncated {
        /// Bytes there.
        len: usize,
        /// Bytes it should have.
        wanted: usize,
    },
    /// No pinned key signed it, or it was changed or damaged since.
    Signature,
    /// The bytes lie where code cannot run in place.
    Alignment,
    /// Its header would take too much of the heap; `holm` writes none such.
    HeaderTooLarge(usize),
    /// The header of a signed image is not readable: another format under the same number.
    Header,
    /// Compiled for another release of the interpreter.
    Wasmtime {
        /// The release it was compiled for.
        image: String,
    },
    /// Not the function that was asked for.
    OtherComponent {
        /// Digest of the component asked for.
        wanted: [u8; 32],
        /// Digest of the component that it was made of.
        image: [u8; 32],
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnImage => {
                f.write_str("this is no device image: `holm build --target device` writes one")
            }
            Self::Format(format) => {
                write!(f, "the image has format {format}, this firmware reads {FORMAT}")
            }
            Self::Truncated { len, wanted } => {
                write!(f, "the image is truncated: {len} of {wanted} bytes are here")
            }
            Self::Signature => f.write_str(
                "no author key of this device signed the image, or it was changed or damaged",
            ),
            Self::Alignment => {
                write!(f, "the image must lie at a multiple of {ALIGN} bytes")
            }
            Self::HeaderTooLarge(bytes) => {
                write!(
                    f,
                    "the image's header has {bytes} bytes, at most {HEADER_BYTES_MAX} are taken"
                )
            }
            Self::Header => f.write_str("the image's header is not readable"),
            Self::Wasmtime { image } => write!(
                f,
                "the image was compiled for wasmtime {image}, this firmware has \
                 {WASMTIME_VERSION}: build it with the `holm` of this firmware's release"
            ),
            Self::OtherComponent { wanted, image } => write!(
                f,
                "the image was made of component {}, but {} was asked for",
                Hex(image),
                Hex(wanted)
            ),
        }
    }
}

/// The beginning of a digest.
struct Hex<'a>(&'a [u8; 32]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A verified image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its header.
    pub header: Header,
    header_bytes: usize,
    /// All of it, signature and all.
    whole: &'static [u8],
    code: &'static [u8],
}

impl Image {
    /// Takes an image from memory that nobody changes any more, and that may go on after its end
    /// as a flash slot does. `authors` are the raw Ed25519 keys that this device trusts;
    /// `component` is the digest of the function it was told to run, where it was told.
    ///
    /// # Errors
    /// [`ImageError`]; nothing of the image has run then.
    pub fn verify(
        bytes: &'static [u8],
        authors: &[[u8; 32]],
        component: Option<&[u8; 32]>,
    ) -> Result<Self, ImageError> {
        let (whole, header_bytes) = split(bytes)?;
        let (signed, signature) = whole.split_last_chunk().ok_or(ImageError::NotAnImage)?;
        if !authors.iter().any(|author| is_signed_by(author, signed, signature)) {
            return Err(ImageError::Signature);
        }
        let after = signed.get(PREFIX_BYTES..).ok_or(ImageError::Header)?;
        let header = after.get(..header_bytes).ok_or(ImageError::Header)?;
        let code_at = (PREFIX_BYTES + header_bytes).next_multiple_of(ALIGN);
        let code = signed.get(code_at..).ok_or(ImageError::Header)?;
        let header: Header = postcard::from_bytes(header).map_err(|_| ImageError::Header)?;
        if header.wasmtime != WASMTIME_VERSION {
            return Err(ImageError::Wasmtime { image: header.wasmtime });
        }
        if let Some(wanted) = component.filter(|wanted| **wanted != header.component) {
            return Err(ImageError::OtherComponent { wanted: *wanted, image: header.component });
        }
        if !bytes.as_ptr().addr().is_multiple_of(ALIGN) {
            return Err(ImageError::Alignment);
        }
        Ok(Self { header, header_bytes, whole, code })
    }

    /// Bytes of the header as it stands in the image, at most 8 KiB.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        self.header_bytes
    }

    /// SHA-256 of the image, by which offers name it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.whole).into()
    }

    /// Bytes of compiled code.
    #[must_use]
    pub fn code(&self) -> &'static [u8] {
        self.code
    }
}

/// The image without what follows it, and the length of its header; all of it still foreign.
fn split(bytes: &[u8]) -> Result<(&[u8], usize), ImageError> {
    if !bytes.starts_with(MAGIC) {
        return Err(ImageError::NotAnImage);
    }
    let short = |wanted| ImageError::Truncated { len: bytes.len(), wanted };
    let word = |at: usize| {
        let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
        word.copied().map(u32::from_le_bytes).ok_or(short(PREFIX_BYTES))
    };
    let (format, image_bytes, header_bytes) = (word(16)?, word(20)? as usize, word(24)? as usize);
    if format != FORMAT {
        return Err(ImageError::Format(format));
    }
    let image = bytes.get(..image_bytes).ok_or(short(image_bytes))?;
    if header_bytes > HEADER_BYTES_MAX {
        return Err(ImageError::HeaderTooLarge(header_bytes));
    }
    // Else what is computed with it could pass the end.
    if header_bytes + SIGNATURE_BYTES > image.len() {
        return Err(ImageError::NotAnImage);
    }
    Ok((image, header_bytes))
}

/// The strict rule: no weak keys, no second form of a signature.
fn is_signed_by(author: &[u8; 32], signed: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    VerifyingKey::from_bytes(author)
        .is_ok_and(|key| key.verify_strict(signed, &Signature::from_bytes(signature)).is_ok())
}
