//! The device image (`.img`): a function compiled for the interpreter of a microcontroller, with
//! what it may use and do, signed by its author.
//!
//! Layout, integers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 16 | `holm device fn` and two zeros |
//! | 4 | format, now 2 |
//! | 4 | length of the whole image, signature included |
//! | 4 | length n of the header |
//! | n | the [`Header`] in postcard, at most 8 KiB: fields in their order, integers as varints |
//! | up to 63 | zeros, so that the code begins at a multiple of 64 |
//! | to the signature | the code, as wasmtime's `precompile_module` made it for pulley32 |
//! | 64 | Ed25519 signature by the author over everything before it |
//!
//! The magic keeps this signature apart from that of a revision, which begins with other words.
//! Devices read it in `firmware-examples/device-function`, where the code may stay in flash: it is
//! never copied, only the beginning of the image has to lie at a multiple of 64.

use serde::Serialize;

use crate::id::Digest;
use crate::manifest::{Function, Manifest, StateScope};
use crate::revision::SigningKey;

const MAGIC: &[u8; 16] = b"holm device fn\0\0";
const FORMAT: u32 = 2;
const ALIGN: usize = 64;
const SIGNATURE_BYTES: usize = 64;
/// Largest image: a slot of a microcontroller's flash.
pub const IMAGE_BYTES_MAX: usize = 1 << 20;
/// Largest header: a device keeps it in its heap.
pub const HEADER_BYTES_MAX: usize = 8 << 10;

/// Most that a function has on a device, whatever its manifest allows it on a gateway: RAM there is
/// hundreds of KiB.
pub const DEVICE_LIMITS_MAX: DeviceLimits = DeviceLimits {
    memory: 128 << 10,
    memory_initial: 128 << 10,
    call_stack: 16 << 10,
    fuel: 20_000_000,
    publishes: 16,
    publish_bytes: 8 << 10,
    records: 16,
    record_bytes: 8 << 10,
    log_bytes: 2 << 10,
    state_write_bytes: 8 << 10,
    state_bytes: 16 << 10,
};

/// Version by which a device tells images apart, from the sequence of a revision: 10 bits of its major number, 11 of its
/// minor one, 11 of its patch. `None`: one of them has more.
#[must_use]
pub fn offer_version(sequence: u64) -> Option<u32> {
    let part = |at: u32, bits: u32| {
        let part = u32::try_from(sequence >> at & 0xffff).ok()?;
        (part < 1 << bits).then_some(part)
    };
    let version = part(32, 10)? << 22 | part(16, 11)? << 11 | part(0, 11)?;
    (sequence >> 48 == 0).then_some(version)
}

/// What a function is compiled for, as offers name it in the place of a board.
#[must_use]
pub fn platform(target: &str, wasmtime: &str) -> String {
    format!("{target} wasmtime {wasmtime}")
}

/// Why there is no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceImageError {
    /// The app has no such function.
    #[error("the app has no function `{0}`")]
    NoFunction(String),
    /// It does not fit into a device's flash.
    #[error("the image has {0} bytes, at most {IMAGE_BYTES_MAX} fit into a device's slot")]
    TooLarge(usize),
    /// It cannot be offered to devices.
    #[error(
        "version and floor of an app with functions for devices are below 1024.2048.2048: devices have 32 bits for them"
    )]
    Version,
    /// A device has no room for its configuration and grants.
    #[error(
        "configuration and grants take {0} bytes, a device takes at most {HEADER_BYTES_MAX}: shorten `config`, \
         or the grants to publish and record, in holm.toml"
    )]
    HeaderTooLarge(usize),
    /// It could not begin.
    #[error(
        "it begins with {initial_bytes} bytes of memory, but may have {limit_bytes}: in its limits in holm.toml lower \
         `stack` or raise `memory`, of which a device gives at most {} bytes",
        DEVICE_LIMITS_MAX.memory
    )]
    Memory {
        /// What the module begins with.
        initial_bytes: u32,
        /// What it may have.
        limit_bytes: u32,
    },
}

/// What stands before the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Release of wasmtime that compiled the code and must run it.
    pub wasmtime: String,
    /// `app/function`.
    pub function: String,
    /// Sequence of the revision.
    pub sequence: u64,
    /// Its floor.
    pub floor: u64,
    /// Digest of the component that gateways run.
    pub component: Digest,
    /// Digest of the core module inside it.
    pub module: Digest,
    /// Bounds of an attempt.
    pub limits: DeviceLimits,
    /// What it may do.
    pub grants: DeviceGrants,
}

/// Bounds of an attempt on a device; in bytes where nothing else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceLimits {
    /// Linear memory.
    pub memory: u32,
    /// Linear memory that the module begins with.
    pub memory_initial: u32,
    /// Call stack of the interpreter.
    pub call_stack: u32,
    /// Fuel, about one unit a WebAssembly instruction: on a device, time is counted in it.
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

/// What a function may do on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceGrants {
    /// Topic filters that it may publish to.
    pub publish: Vec<String>,
    /// Series that it may record.
    pub record: Vec<String>,
    /// Whether it has state.
    pub state: bool,
    /// What `config` answers, in order of keys.
    pub config: Vec<(String, String)>,
}

impl Header {
    /// The header of a function of an app, with the limits of its manifest as far as a device has
    /// them. `component` is what the manifest names; `memory_initial` and `module` are of the core
    /// module inside it.
    ///
    /// # Errors
    /// [`DeviceImageError::NoFunction`], [`DeviceImageError::Memory`].
    pub fn new(
        manifest: &Manifest,
        name: &str,
        wasmtime: &str,
        module: Digest,
        memory_initial: u32,
    ) -> Result<Self, DeviceImageError> {
        let function = manifest.functions.get(name);
        let function = function.ok_or_else(|| DeviceImageError::NoFunction(name.to_owned()))?;
        let limits = limits(function, memory_initial);
        if memory_initial > limits.memory {
            let (initial_bytes, limit_bytes) = (memory_initial, limits.memory);
            return Err(DeviceImageError::Memory { initial_bytes, limit_bytes });
        }
        Ok(Self {
            wasmtime: wasmtime.to_owned(),
            function: format!("{}/{name}", manifest.app),
            sequence: manifest.sequence,
            floor: manifest.floor,
            component: function.artifact,
            module,
            limits,
            grants: DeviceGrants {
                publish: function.grants.publish.clone(),
                record: function.grants.record.clone(),
                state: function.state != StateScope::None,
                config: function.config.clone().into_iter().collect(),
            },
        })
    }
}

fn limits(function: &Function, memory_initial: u32) -> DeviceLimits {
    let (asked, most) = (&function.limits, DEVICE_LIMITS_MAX);
    let at_most = |asked: u64, most: u32| u32::try_from(asked).unwrap_or(u32::MAX).min(most);
    DeviceLimits {
        memory: at_most(asked.memory_bytes, most.memory),
        memory_initial,
        call_stack: most.call_stack,
        fuel: most.fuel,
        publishes: asked.publishes.min(most.publishes),
        publish_bytes: asked.publish_bytes.min(most.publish_bytes),
        records: asked.records.min(most.records),
        record_bytes: asked.record_bytes.min(most.record_bytes),
        log_bytes: asked.log_bytes.min(most.log_bytes),
        state_write_bytes: asked.state_write_bytes.min(most.state_write_bytes),
        state_bytes: at_most(asked.state_bytes, most.state_bytes),
    }
}

/// Writes an image.
///
/// # Errors
/// [`DeviceImageError::HeaderTooLarge`], [`DeviceImageError::TooLarge`].
pub fn write(header: &Header, code: &[u8], key: &SigningKey) -> Result<Vec<u8>, DeviceImageError> {
    let header = postcard::to_stdvec(header).expect("invariant: memory takes any header");
    if header.len() > HEADER_BYTES_MAX {
        return Err(DeviceImageError::HeaderTooLarge(header.len()));
    }
    let prefix_bytes = MAGIC.len() + 3 * size_of::<u32>();
    let code_at = (prefix_bytes + header.len()).next_multiple_of(ALIGN);
    let len = code_at + code.len() + SIGNATURE_BYTES;
    if len > IMAGE_BYTES_MAX {
        return Err(DeviceImageError::TooLarge(len));
    }
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut image = Vec::with_capacity(len);
    image.extend_from_slice(MAGIC);
    image.extend_from_slice(&FORMAT.to_le_bytes());
    image.extend_from_slice(&word(len));
    image.extend_from_slice(&word(header.len()));
    image.extend_from_slice(&header);
    image.resize(code_at, 0);
    image.extend_from_slice(code);
    image.extend_from_slice(&key.sign(&image));
    debug_assert_eq!(image.len(), len, "the length stands in the image");
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            wasmtime: "1.2.3".to_owned(),
            function: "a/f".to_owned(),
            sequence: 300,
            floor: 2,
            component: Digest([1; 32]),
            module: Digest([2; 32]),
            limits: DEVICE_LIMITS_MAX,
            grants: DeviceGrants {
                publish: vec!["t/+".to_owned()],
                record: vec![],
                state: true,
                config: vec![("k".to_owned(), "v".to_owned())],
            },
        }
    }

    #[test]
    fn the_layout_is_the_one_described() {
        let key = SigningKey::generate().unwrap();
        let image = write(&header(), b"code", &key).unwrap();
        let word = |at: usize| u32::from_le_bytes(*image[at..].first_chunk().unwrap()) as usize;
        assert_eq!((&image[..16], word(16)), (MAGIC.as_slice(), 2));
        assert_eq!(word(20), image.len());
        let header_bytes = word(24);
        // Text with its length, sequence and floor as varints, digests as they are.
        assert_eq!(image[28..28 + 13], *b"\x051.2.3\x03a/f\xac\x02\x02");
        assert!(image[28..28 + header_bytes].ends_with(b"\x01\x03t/+\0\x01\x01\x01k\x01v"));
        let (signed, signature) = image.split_at(image.len() - 64);
        assert_eq!(&signed[signed.len() - 4..], b"code");
        assert_eq!((signed.len() - 4) % 64, 0);
        assert!(key.public().verify(signed, signature));
    }

    #[test]
    fn versions_of_offers_order_as_sequences() {
        let sequence = |[major, minor, patch]: [u64; 3]| major << 32 | minor << 16 | patch;
        let all = [[0, 0, 0], [0, 0, 1], [0, 2047, 2047], [1, 0, 0], [1023, 2047, 2047]];
        let versions = all.map(|parts| offer_version(sequence(parts)).unwrap());
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
        for parts in [[1024, 0, 0], [0, 2048, 0], [0, 0, 2048], [1 << 16, 0, 0]] {
            assert_eq!(offer_version(sequence(parts)), None, "{parts:?}");
        }
    }

    #[test]
    fn an_image_over_a_slot_is_refused() {
        let key = SigningKey::generate().unwrap();
        let error = write(&header(), &vec![0; IMAGE_BYTES_MAX], &key).unwrap_err();
        assert!(matches!(error, DeviceImageError::TooLarge(_)), "{error}");
    }

    #[test]
    fn a_header_over_its_bound_is_refused() {
        let key = SigningKey::generate().unwrap();
        let with = |value_bytes: usize| {
            let mut header = header();
            header.grants.config = vec![("k".to_owned(), "v".repeat(value_bytes))];
            write(&header, b"code", &key)
        };
        let len = |image: &[u8]| u32::from_le_bytes(*image[24..].first_chunk().unwrap()) as usize;
        // Lengths of 128 to 16383 bytes take two bytes.
        let beside = len(&with(1000).unwrap()) - 1000;
        assert_eq!(len(&with(HEADER_BYTES_MAX - beside).unwrap()), HEADER_BYTES_MAX);
        let error = with(HEADER_BYTES_MAX - beside + 1).unwrap_err();
        assert_eq!(error, DeviceImageError::HeaderTooLarge(HEADER_BYTES_MAX + 1));
        assert!(error.to_string().contains("holm.toml"), "{error}");
    }

    #[test]
    fn a_function_that_could_not_begin_gets_no_header() {
        let function = serde_json::json!({ "artifact": Digest([1; 32]), "size": 4 });
        let mut function: Function = serde_json::from_value(function).unwrap();
        function.limits.memory_bytes = 64 << 10;
        let manifest = Manifest {
            format: crate::manifest::FORMAT,
            app: "a".to_owned(),
            version: "1".to_owned(),
            sequence: 1,
            floor: 1,
            functions: [("f".to_owned(), function)].into(),
            triggers: [].into(),
            firmware: Default::default(),
            agent: None,
            system: None,
            records: [].into(),
        };
        let header = |initial| Header::new(&manifest, "f", "1.2.3", Digest([2; 32]), initial);
        assert_eq!(header(64 << 10).unwrap().limits.memory, 64 << 10);
        let error = header((64 << 10) + 1).unwrap_err();
        let wanted = DeviceImageError::Memory { initial_bytes: 65537, limit_bytes: 65536 };
        assert_eq!(error, wanted);
        assert!(error.to_string().contains("raise `memory`"), "{error}");
    }
}
