//! What devices prove themselves with: images of `holm device add` in a folder, or fresh ones for a gateway that lives as
//! long as the simulation.
//!
//! # Invariants
//! - All devices of a simulation trust the same gateway, or none: TLS is a matter of the whole fleet.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use device_protocol::provision::{COPY_BYTES, Gateway, Provision, newest};
use ring::rand::SecureRandom as _;

use super::client::Pair;
use crate::device::agent_toml::Account;
use crate::device::{Secret, authority};
use crate::failure::{Done, Exit, Failure, read_file};

/// The account that watches what the devices publish.
pub(super) const WATCHER: &str = "sim-watch";
/// The file with its token.
pub(super) const WATCHER_FILE: &str = "sim-watch.token";
/// End of the name of an image.
pub(super) const IMAGE: &str = "provision";
/// The name of a gateway that lives as long as the simulation.
pub(super) const OWN_HOST: &str = "localhost";
/// Days that its certificates are valid: the clock of a device may be off by a year.
pub(super) const DAYS: u32 = 10 * 365;
const IMAGE_BYTES_MAX: u64 = 1 << 20;
const TOKEN_BYTES_MAX: u64 = 4 << 10;

/// Name of device `n`, from 1.
pub(super) fn name_of(n: u32) -> String {
    format!("sim-{n:04}")
}

/// Secrets by device.
#[derive(Default)]
pub(super) struct Credentials {
    devices: BTreeMap<String, Issued>,
    watcher: Option<String>,
    trust: Option<Trust>,
}

/// How the gateway proves itself to all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    /// The authority that signs it, DER.
    pub(super) gateway_ca: Vec<u8>,
    /// The name in its certificate.
    pub(super) server_name: String,
}

struct Issued {
    secret: Secret,
    issued_unix_s: u64,
    author_key: Option<[u8; 32]>,
    /// HOST:PORT of its first gateway.
    gateway: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("devices", &self.devices.len()).finish_non_exhaustive()
    }
}

impl Credentials {
    /// New ones for these devices and the watcher: tokens without TLS, or certificates of the authorities in a folder.
    ///
    /// # Errors
    /// The system gives no random numbers, or there are no authorities.
    pub(super) fn fresh(names: &[String], authorities: Option<&Path>) -> Done<Self> {
        let issued_unix_s = unix_s();
        let issue = |name: &String| -> Done<(String, Issued)> {
            let secret = match authorities {
                Some(dir) => Secret::certificate(dir, name, DAYS)?,
                None => Secret::plain()?,
            };
            Ok((name.clone(), Issued { secret, issued_unix_s, author_key: None, gateway: None }))
        };
        let devices: BTreeMap<_, _> = names.iter().map(issue).collect::<Done<_>>()?;
        let gateway_ca = devices.values().find_map(|it| it.secret.gateway_ca()).map(<[u8]>::to_vec);
        let trust =
            gateway_ca.map(|gateway_ca| Trust { gateway_ca, server_name: OWN_HOST.to_owned() });
        let watcher = Some(crate::device::hex(&crate::device::random()?));
        Ok(Self { devices, watcher, trust })
    }

    /// Those of these devices from the images in a folder.
    ///
    /// # Errors
    /// An image is missing, is none, or is for another gateway than the others; what to do about it is in the failure.
    pub(super) fn load(dir: &Path, names: &[String]) -> Done<Self> {
        let mut devices = BTreeMap::new();
        let mut trust: Option<Option<Trust>> = None;
        for name in names {
            let path = dir.join(format!("{name}.{IMAGE}"));
            let image =
                read_file(&path, IMAGE_BYTES_MAX).map_err(|failure| match failure.exit {
                    Exit::NotFound => missing(dir, name, names.len()),
                    _ => failure,
                })?;
            let (issued, of_this) = read_issued(&path, name, &image)?;
            if *trust.get_or_insert_with(|| of_this.clone()) != of_this {
                return Err(another(name, &names[0]));
            }
            devices.insert(name.clone(), issued);
        }
        let watcher = match read_file(&dir.join(WATCHER_FILE), TOKEN_BYTES_MAX) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(failure) if failure.exit == Exit::NotFound => None,
            Err(failure) => return Err(failure),
        };
        Ok(Self { devices, watcher, trust: trust.flatten() })
    }

    /// How the gateway proves itself; none: there is no TLS.
    pub(super) fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// The token that a device sends; none: it shows a certificate, or is not known.
    pub(super) fn token(&self, device: &str) -> Option<&str> {
        self.devices.get(device)?.secret.password()
    }

    /// The certificate that a device shows, and its key; none: it sends a token, or is not known.
    pub(super) fn pair(&self, device: &str) -> Option<Pair> {
        match &self.devices.get(device)?.secret {
            Secret::Certificate { certificate, key, .. } => Some(Pair {
                key: authority::pkcs8(certificate, key)?.into(),
                certificate: certificate.clone().into(),
            }),
            Secret::Token { .. } | Secret::Psk { .. } | Secret::Plain { .. } => None,
        }
    }

    /// What a device has in its flash, for this gateway; none: it is not known.
    pub(super) fn provision<'a>(
        &'a self,
        device: &'a str,
        gateway: Gateway<'a>,
    ) -> Option<Provision<'a>> {
        let issued = self.devices.get(device)?;
        Some(Provision {
            device,
            issued_unix_s: issued.issued_unix_s,
            gateways: std::iter::once(gateway).collect(),
            server_name: self.trust().map_or(gateway.host, |trust| &trust.server_name),
            credential: issued.secret.credential(),
            author_key: issued.author_key,
        })
    }

    /// What the gateway knows of each device.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (&str, Account)> {
        let devices = self.devices.iter();
        devices.filter_map(|(name, issued)| Some((name.as_str(), issued.secret.account()?)))
    }

    /// Token of the watcher; none: it looks anonymously.
    pub(super) fn watcher(&self) -> Option<&str> {
        self.watcher.as_deref()
    }

    /// The gateway that the devices were made for.
    pub(super) fn gateway(&self) -> Option<&str> {
        self.devices.values().find_map(|issued| issued.gateway.as_deref())
    }
}

/// What an image says of a device, and of its gateway.
fn read_issued(path: &Path, name: &str, image: &[u8]) -> Done<(Issued, Option<Trust>)> {
    let provision = read_image(image).ok_or_else(|| {
        let problem = format!("{}: no image of `holm device add`", path.display());
        Failure::input(problem).next("`holm device show FILE` says what is wrong with it")
    })?;
    if provision.device != name {
        let problem = format!("{} is of `{}`", path.display(), provision.device);
        return Err(Failure::input(problem).next("the file must be called NAME.provision"));
    }
    let secret = Secret::of(&provision.credential);
    if secret.account().is_none() {
        let problem = format!("`{name}` has a pre-shared key: no gateway of Holm takes it");
        return Err(Failure::input(problem)
            .next("simulated devices need credentials of `holm simulate prepare`"));
    }
    let trust = secret
        .gateway_ca()
        .map(|ca| Trust { gateway_ca: ca.to_vec(), server_name: provision.server_name.to_owned() });
    let at = provision.gateways.first().map(crate::device::address);
    let issued = Issued {
        secret,
        issued_unix_s: provision.issued_unix_s,
        author_key: provision.author_key,
        gateway: at,
    };
    Ok((issued, trust))
}

fn another(name: &str, first: &str) -> Failure {
    let problem = format!(
        "`{name}` and `{first}` were made for different gateways: one has TLS and the other has not, or the \
         authority or the name of the gateway is another"
    );
    Failure::input(problem)
        .next("put devices of one gateway into a folder of their own: --credentials DIR")
}

/// Seconds since 1970.
pub(super) fn unix_s() -> u64 {
    u64::try_from(time::OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0)
}

/// The copy of an image that counts.
fn read_image(image: &[u8]) -> Option<Provision<'_>> {
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
