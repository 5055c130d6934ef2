//! What devices prove themselves with: images of `holm device add --plain` in a folder, or tokens made for a gateway that
//! lives as long as the simulation.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use device_protocol::provision::{COPY_BYTES, Credential, Provision, newest};
use ring::rand::SecureRandom as _;

use crate::failure::{Done, Exit, Failure, read_file};

/// The account that watches what the devices publish.
pub(super) const WATCHER: &str = "sim-watch";
/// The file with its token.
pub(super) const WATCHER_FILE: &str = "sim-watch.token";
/// End of the name of an image.
pub(super) const IMAGE: &str = "provision";
const IMAGE_BYTES_MAX: u64 = 1 << 20;
const TOKEN_BYTES_MAX: u64 = 4 << 10;

/// Name of device `n`, from 1.
pub(super) fn name_of(n: u32) -> String {
    format!("sim-{n:04}")
}

/// Secrets by device.
#[derive(Default)]
pub(super) struct Credentials {
    devices: BTreeMap<String, Secret>,
    watcher: Option<String>,
}

struct Secret {
    /// None: the image is for TLS.
    token: Option<String>,
    /// The provisioning image, for the flash of an emulated device; none where there is no file.
    image: Option<Vec<u8>>,
    /// HOST:PORT of its first gateway.
    gateway: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("devices", &self.devices.len()).finish_non_exhaustive()
    }
}

impl Credentials {
    /// New tokens for these devices and the watcher.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub(super) fn fresh(names: &[String]) -> Done<Self> {
        let secret = |name: &String| {
            let token = Some(crate::device::hex(&crate::device::random()?));
            Ok((name.clone(), Secret { token, image: None, gateway: None }))
        };
        let devices = names.iter().map(secret).collect::<Done<_>>()?;
        Ok(Self { devices, watcher: Some(crate::device::hex(&crate::device::random()?)) })
    }

    /// Those of these devices from the images in a folder.
    ///
    /// # Errors
    /// An image is missing or is none; what to do about it is in the failure.
    pub(super) fn load(dir: &Path, names: &[String]) -> Done<Self> {
        let mut devices = BTreeMap::new();
        for name in names {
            let path = dir.join(format!("{name}.{IMAGE}"));
            let image =
                read_file(&path, IMAGE_BYTES_MAX).map_err(|failure| match failure.exit {
                    Exit::NotFound => missing(dir, name, names.len()),
                    _ => failure,
                })?;
            let (token, gateway) = read_secret(&path, name, &image)?;
            devices.insert(name.clone(), Secret { token, image: Some(image), gateway });
        }
        let watcher = match read_file(&dir.join(WATCHER_FILE), TOKEN_BYTES_MAX) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(failure) if failure.exit == Exit::NotFound => None,
            Err(failure) => return Err(failure),
        };
        Ok(Self { devices, watcher })
    }

    /// The token that a device sends; none: it was made for TLS, or is not known.
    pub(super) fn token(&self, device: &str) -> Option<&str> {
        self.devices.get(device)?.token.as_deref()
    }

    /// Names and tokens of all devices.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        self.devices
            .iter()
            .filter_map(|(name, secret)| Some((name.as_str(), secret.token.as_deref()?)))
    }

    /// The provisioning image of a device.
    pub(super) fn image(&self, device: &str) -> Option<&[u8]> {
        self.devices.get(device)?.image.as_deref()
    }

    /// Token of the watcher; none: it looks anonymously.
    pub(super) fn watcher(&self) -> Option<&str> {
        self.watcher.as_deref()
    }

    /// The gateway that the devices were made for.
    pub(super) fn gateway(&self) -> Option<&str> {
        self.devices.values().find_map(|secret| secret.gateway.as_deref())
    }
}

/// Token of a device, if it has one that goes without TLS, and its first gateway.
fn read_secret(path: &Path, name: &str, image: &[u8]) -> Done<(Option<String>, Option<String>)> {
    let provision = read_image(image).ok_or_else(|| {
        let problem = format!("{}: no image of `holm device add`", path.display());
        Failure::input(problem).next("`holm device show FILE` says what is wrong with it")
    })?;
    if provision.device != name {
        let problem = format!("{} is of `{}`", path.display(), provision.device);
        return Err(Failure::input(problem).next("the file must be called NAME.provision"));
    }
    let token = match provision.credential {
        Credential::Plain { token } => Some(token.to_owned()),
        Credential::Certificate { .. } | Credential::Token { .. } | Credential::Psk { .. } => None,
    };
    let gateway = provision.gateways.first().map(|at| format!("{}:{}", at.host, at.port));
    Ok((token, gateway))
}

/// The copy of an image that counts.
pub(super) fn read_image(image: &[u8]) -> Option<Provision<'_>> {
    let (first, second) = image.split_at(image.len().min(COPY_BYTES));
    newest([first, second]).ok().map(|found| found.provision)
}

fn missing(dir: &Path, name: &str, count: usize) -> Failure {
    let problem = format!("there are no credentials for `{name}` in {}", dir.display());
    Failure::new(Exit::NotFound, problem).next(format!(
        "--with-gateway starts a gateway that knows the devices; for one of your own: \
         `holm simulate prepare --devices {count} --agent-toml FILE`, then start the agent again"
    ))
}

/// 64 random bits of the system, or of the clock where it gives none: boots must differ, and are no secrets.
pub(super) fn fresh_seed() -> u64 {
    let mut bytes = [0; 8];
    match ring::rand::SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
    }
}
