//! The functions of `include/holm_device.h`.
//!
//! Each turns pointers into references for as long as the call lasts, and leaves the rest to safe code. A device is only
//! ever a shared reference here, so callbacks may call back.

use core::ffi::{CStr, c_char, c_void};

use device_sdk::protocol::provision::{COPY_BYTES, Credential, TOKEN_MAX, newest};
use device_sdk::protocol::{DeviceName, SchemaId, limits};
use device_sdk::{BackoffConfig, Overflow, Reply};

use super::arena::Arena;
use crate::abi::{self, Figures, Outcome, Provision, Settings, Time};
use crate::handle::Handle;
use crate::hooks::Hooks;
use crate::start::{self, Plan};
#[cfg(feature = "tls")]
use crate::tls;

/// # Safety
/// The contract of `holm_device_init`.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_init(
    memory: *mut c_void,
    length: usize,
    settings: *const Settings,
    device: *mut *const Handle,
) -> Outcome {
    // SAFETY: that of the caller.
    unsafe { init(memory, length, settings, device, None, start::device) }
}

/// # Safety
/// The contract of `holm_device_init_tls`.
#[cfg(feature = "tls")]
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_init_tls(
    memory: *mut c_void,
    length: usize,
    settings: *const Settings,
    image: *const c_void,
    image_length: usize,
    entropy: *const [u8; 32],
    device: *mut *const Handle,
) -> Outcome {
    // SAFETY: null, or the caller's; the image lives as long as the device.
    let (image, entropy) = unsafe { (bytes(image, image_length), entropy.as_ref()) };
    let Some((image, entropy)) = image.zip(entropy) else { return abi::ERROR_ARGUMENT };
    let Some(provision) = tls::read(image) else { return abi::ERROR_PROVISION };
    let given = Given { name: provision.device, token: tls::token(&provision) };
    let random = device_sdk::tls::Random::new(*entropy);
    let start = |arena, plan: &Plan<'_>| start::device_tls(arena, plan, provision, random);
    // SAFETY: that of the caller.
    unsafe { init(memory, length, settings, device, Some(given), start) }
}

/// What stands in an image and not in the settings.
#[derive(Clone, Copy)]
struct Given {
    name: &'static str,
    token: &'static str,
}

/// # Safety
/// The contract of `holm_serial_init`.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_serial_init(
    memory: *mut c_void,
    length: usize,
    settings: *const Settings,
    device: *mut *const Handle,
) -> Outcome {
    // SAFETY: that of the caller.
    unsafe { init(memory, length, settings, device, None, start::serial) }
}

unsafe fn init(
    memory: *mut c_void,
    length: usize,
    settings: *const Settings,
    device: *mut *const Handle,
    given: Option<Given>,
    start: impl FnOnce(Arena, &Plan<'_>) -> Option<&'static Handle>,
) -> Outcome {
    // SAFETY: null, or settings that live for the call. Their first word says whether they are of this library.
    let Some(settings) = (unsafe { settings.as_ref() }) else { return abi::ERROR_ARGUMENT };
    // SAFETY: null, or the caller's.
    let Some(device) = (unsafe { device.as_mut() }) else { return abi::ERROR_ARGUMENT };
    *device = core::ptr::null();
    // SAFETY: texts of the settings are null, or end with a NUL and live for the call.
    let plan = match unsafe { plan_of(settings, given) } {
        Ok(plan) => plan,
        Err(error) => return error,
    };
    // SAFETY: the caller gives the memory away for as long as it uses the device.
    let Some(arena) = (unsafe { Arena::new(memory.cast(), length) }) else {
        return abi::ERROR_MEMORY;
    };
    let Some(handle) = start(arena, &plan) else { return abi::ERROR_MEMORY };
    *device = handle;
    abi::OK
}

/// # Safety
/// The texts are null or end with a NUL.
unsafe fn plan_of(settings: &Settings, given: Option<Given>) -> Result<Plan<'_>, Outcome> {
    if settings.abi != abi::ABI {
        return Err(abi::ERROR_ABI);
    }
    // SAFETY: that of the caller, for all three.
    let [name, user, token] = unsafe {
        [
            text(settings.name, limits::NAME_MAX),
            text(settings.user, limits::NAME_MAX),
            text(settings.token, TOKEN_MAX),
        ]
    };
    let (name, token) = match given {
        Some(Given { name, token }) => (Ok(Some(name)), Ok(Some(token))),
        None => (name, token),
    };
    let name = name.ok().flatten().and_then(|name| DeviceName::new(name).ok());
    let credential = |text: Result<_, ()>| text.map_err(|()| abi::ERROR_CREDENTIAL);
    let is_set = |ms: &u32| *ms > 0;
    let default = BackoffConfig::default();
    Ok(Plan {
        name: name.ok_or(abi::ERROR_NAME)?,
        boot: settings.boot,
        user: credential(user)?.filter(|user| !user.is_empty()),
        token: credential(token)?.unwrap_or(""),
        hooks: Hooks {
            on_event: settings.on_event,
            on_command: settings.on_command,
            context: settings.context,
        },
        overflow: match settings.overflow {
            abi::OVERFLOW_DROP_OLDEST => Overflow::DropOldest,
            abi::OVERFLOW_DROP_NEWEST => Overflow::DropNewest,
            _ => return Err(abi::ERROR_ARGUMENT),
        },
        keep_alive_s: Some(settings.keep_alive_s).filter(|seconds| *seconds > 0),
        backoff: BackoffConfig {
            min_ms: Some(settings.backoff_ms_min).filter(is_set).unwrap_or(default.min_ms),
            max_ms: Some(settings.backoff_ms_max).filter(is_set).unwrap_or(default.max_ms),
        },
        address: match settings.address {
            0 => None,
            address @ 1..=247 => Some(address),
            248.. => return Err(abi::ERROR_ADDRESS),
        },
        baud: settings.baud,
    })
}

/// A text of at most `longest` bytes; none for a null pointer.
///
/// # Safety
/// It ends with a NUL, or is longer than `longest`; it lives for `'a`.
unsafe fn text<'a>(start: *const c_char, longest: usize) -> Result<Option<&'a str>, ()> {
    if start.is_null() {
        return Ok(None);
    }
    for length in 0..=longest {
        // SAFETY: all before it were no NUL, so it belongs to the text.
        if unsafe { *start.add(length) } == 0 {
            // SAFETY: so many bytes of the text, and its NUL.
            let text = unsafe { core::slice::from_raw_parts(start.cast(), length) };
            return core::str::from_utf8(text).map(Some).map_err(|_| ());
        }
    }
    Err(())
}

/// The bytes that C points to; none for a null pointer with a length.
///
/// # Safety
/// So many bytes are there for `'a`.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    if length == 0 {
        return Some(&[]);
    }
    if start.is_null() || length > isize::MAX as usize {
        return None;
    }
    // SAFETY: not null; the rest is the caller's promise.
    Some(unsafe { core::slice::from_raw_parts(start.cast(), length) })
}

/// # Safety
/// Null, or from an init that succeeded.
unsafe fn held<'a>(device: *const Handle) -> Option<&'a Handle> {
    if !device.is_aligned() {
        return None;
    }
    // SAFETY: aligned; null, or a device. A device is only read but for its cells, which one task uses.
    unsafe { device.as_ref() }.filter(|handle| handle.is_whole())
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_poll(
    device: *const Handle,
    now_ms: u64,
    due_ms: *mut u64,
) -> Outcome {
    // SAFETY: that of the caller.
    let Some(handle) = (unsafe { held(device) }) else { return abi::ERROR_ARGUMENT };
    match handle.poll(now_ms) {
        Ok(due) => {
            // SAFETY: null, or the caller's.
            if let Some(place) = unsafe { due_ms.as_mut() } {
                *place = due;
            }
            abi::OK
        }
        Err(error) => error,
    }
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_connection(device: *const Handle) -> u32 {
    // SAFETY: that of the caller.
    unsafe { held(device) }.map_or(0, |handle| handle.wire().connection())
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_opened(device: *const Handle, connection: u32) -> Outcome {
    // SAFETY: that of the caller.
    let Some(handle) = (unsafe { held(device) }) else { return abi::ERROR_ARGUMENT };
    if handle.wire().opened(connection) { abi::OK } else { abi::ERROR_STALE }
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_closed(device: *const Handle, connection: u32) -> Outcome {
    // SAFETY: that of the caller.
    let Some(handle) = (unsafe { held(device) }) else { return abi::ERROR_ARGUMENT };
    if handle.wire().closed(connection) { abi::OK } else { abi::ERROR_STALE }
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_received(
    device: *const Handle,
    start: *const c_void,
    length: usize,
) -> usize {
    // SAFETY: that of the caller.
    let (handle, bytes) = unsafe { (held(device), bytes(start, length)) };
    handle.zip(bytes).map_or(0, |(handle, bytes)| handle.wire().receive(bytes))
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_to_send(
    device: *const Handle,
    out: *mut c_void,
    capacity: usize,
) -> usize {
    // SAFETY: that of the caller.
    let Some(handle) = (unsafe { held(device) }) else { return 0 };
    if out.is_null() || capacity == 0 || capacity > isize::MAX as usize {
        return 0;
    }
    // SAFETY: the caller's memory for the call. It is not read, and bytes of C have no invalid values.
    let out = unsafe { core::slice::from_raw_parts_mut(out.cast(), capacity) };
    handle.wire().send(out)
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_publish(
    device: *const Handle,
    topic: *const c_char,
    schema: u64,
    body: *const c_void,
    body_length: usize,
    sequence: *mut u64,
) -> Outcome {
    // SAFETY: that of the caller.
    let (handle, topic, body) =
        unsafe { (held(device), text(topic, limits::TOPIC_MAX), bytes(body, body_length)) };
    let Some((handle, body)) = handle.zip(body) else { return abi::ERROR_ARGUMENT };
    let topic = match topic {
        Ok(Some(topic)) => topic,
        Ok(None) => return abi::ERROR_ARGUMENT,
        Err(()) => return abi::ERROR_TOPIC,
    };
    match handle.publish(topic, schema, body) {
        Ok(number) => {
            // SAFETY: null, or the caller's.
            if let Some(place) = unsafe { sequence.as_mut() } {
                *place = number;
            }
            abi::OK
        }
        Err(error) => error,
    }
}

/// # Safety
/// The contract of the header: `reply` is that of the command that is being done.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_answer(
    reply: *mut c_void,
    schema: u64,
    body: *const c_void,
    body_length: usize,
) -> Outcome {
    // SAFETY: that of the caller; `call::command` has lent it to C for the callback.
    let (reply, body) = unsafe { (reply.cast::<Reply>().as_mut(), bytes(body, body_length)) };
    let Some((reply, body)) = reply.zip(body) else { return abi::ERROR_ARGUMENT };
    match reply.bytes(SchemaId(schema), body) {
        Ok(()) => abi::OK,
        Err(_) => abi::ERROR_TOO_LONG,
    }
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_now(device: *const Handle, time: *mut Time) -> Outcome {
    // SAFETY: that of the caller.
    let (handle, time) = unsafe { (held(device), time.as_mut()) };
    let Some((handle, time)) = handle.zip(time) else { return abi::ERROR_ARGUMENT };
    *time = handle.now();
    abi::OK
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_device_figures(device: *const Handle, figures: *mut Figures) -> Outcome {
    // SAFETY: that of the caller.
    let (handle, figures) = unsafe { (held(device), figures.as_mut()) };
    let Some((handle, figures)) = handle.zip(figures) else { return abi::ERROR_ARGUMENT };
    *figures = handle.figures();
    abi::OK
}

/// # Safety
/// The contract of the header.
#[unsafe(no_mangle)]
unsafe extern "C" fn holm_provision_read(
    image: *const c_void,
    length: usize,
    out: *mut Provision,
) -> Outcome {
    // SAFETY: that of the caller.
    let (image, out) = unsafe { (bytes(image, length), out.as_mut()) };
    let Some((image, out)) = image.zip(out) else { return abi::ERROR_ARGUMENT };
    match read(image) {
        Some(provision) => {
            *out = provision;
            abi::OK
        }
        None => abi::ERROR_PROVISION,
    }
}

/// What C is given of an image.
fn read(image: &[u8]) -> Option<Provision> {
    let (first, second) = image.split_at_checked(COPY_BYTES)?;
    let provision = newest([first, second]).ok()?.provision;
    let gateway = provision.gateways.first()?;
    let (token, is_plain) = match provision.credential {
        Credential::Plain { token } => (token, true),
        Credential::Token { token, .. } => (token, false),
        Credential::Certificate { .. } | Credential::Psk { .. } => ("", false),
    };
    Some(Provision {
        name: chars(provision.device)?,
        host: chars(gateway.host)?,
        token: chars(token)?,
        is_plain: u8::from(is_plain),
        port: gateway.port,
    })
}

/// A text with a NUL behind it; none if it has one in it, or is too long.
fn chars<const N: usize>(text: &str) -> Option<[c_char; N]> {
    let mut bytes = [0; N];
    bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    let whole = CStr::from_bytes_until_nul(&bytes).ok()?;
    (whole.count_bytes() == text.len()).then(|| bytes.map(|byte| byte as c_char))
}
