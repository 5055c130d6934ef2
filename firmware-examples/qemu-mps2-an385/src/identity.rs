//! Who the device is and where its gateways are: what `holm device add` wrote into its flash. Without TLS, a device that
//! was never provisioned takes it from its command line; without any of `full`, `tls` and `update` it does not look into flash at all.

use core::fmt;
use core::net::Ipv4Addr;

use board_mps2::flash::Flash;
use device_sdk::protocol::DeviceName;
use device_sdk::protocol::provision::{self, Bad, Credential, GATEWAYS_MAX, Provision};
use embassy_net::IpEndpoint;

use crate::settings::Settings;

/// See the module.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) name: DeviceName,
    pub(crate) provision: Provision<'static>,
    gateways: [Option<IpEndpoint>; GATEWAYS_MAX],
    /// The gateway that is dialled next.
    next: usize,
}

/// Why the device does not know who it is.
#[derive(Debug)]
pub(crate) enum Problem {
    /// Neither copy in flash counts.
    Flash([Bad; 2]),
    /// Not a name.
    Name,
    /// A gateway is named: this firmware has no DNS.
    Host(&'static str),
    /// The link of the credential needs, or must not have, the feature `tls`.
    Credential(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash([first, second]) => write!(
                f,
                "no provisioning in flash (first copy: {first}; second copy: {second}): write there what \
                 `holm device add` made"
            ),
            Self::Name => {
                f.write_str("name= on the command line: wanted 1 to 64 of a-z A-Z 0-9 - _ .")
            }
            Self::Host(host) => write!(
                f,
                "gateway {host}: this firmware needs an IPv4 address; `holm device add --gateway 10.0.2.2:8883 \
                 --server-name NAME`"
            ),
            Self::Credential(kind) => write!(
                f,
                "provisioned with a credential of kind {kind}, which this build does not take: it was built {} TLS",
                if cfg!(feature = "tls") { "with" } else { "without" }
            ),
        }
    }
}

impl Identity {
    /// Reads the copy in flash that counts.
    ///
    /// # Errors
    /// [`Problem`].
    pub(crate) fn read(copies: [Flash; 2], settings: &Settings<'static>) -> Result<Self, Problem> {
        if cfg!(not(any(feature = "full", feature = "tls", feature = "update"))) {
            return Self::of_settings(settings);
        }
        let found = provision::newest(copies.map(Flash::into_bytes));
        let provision = match found {
            Ok(found) => found.provision,
            Err(bad) if cfg!(feature = "tls") || !bad.iter().all(is_unwritten) => {
                return Err(Problem::Flash(bad));
            }
            Err(_) => return Self::of_settings(settings),
        };
        let is_plain = matches!(provision.credential, Credential::Plain { .. });
        if is_plain == cfg!(feature = "tls") {
            return Err(Problem::Credential(provision.credential.kind()));
        }
        let name = DeviceName::new(provision.device).map_err(|_| Problem::Name)?;
        let mut gateways = [None; GATEWAYS_MAX];
        for (place, gateway) in gateways.iter_mut().zip(&provision.gateways) {
            let host: Ipv4Addr = gateway.host.parse().map_err(|_| Problem::Host(gateway.host))?;
            *place = Some((host, gateway.port).into());
        }
        Ok(Self { name, provision, gateways, next: 0 })
    }

    fn of_settings(settings: &Settings<'static>) -> Result<Self, Problem> {
        let name = DeviceName::new(settings.name).map_err(|_| Problem::Name)?;
        let provision = Provision {
            device: settings.name,
            issued_unix_s: 0,
            gateways: Default::default(),
            server_name: "",
            credential: Credential::Plain { token: "" },
            author_key: None,
        };
        let gateway = Some((settings.host, settings.port).into());
        Ok(Self { name, provision, gateways: [gateway, None, None], next: 0 })
    }

    /// What it shows as its MQTT password, if it does.
    pub(crate) fn token(&self) -> Option<&'static str> {
        match self.provision.credential {
            Credential::Token { token, .. } | Credential::Plain { token } => {
                Some(token).filter(|token| !token.is_empty())
            }
            Credential::Certificate { .. } | Credential::Psk { .. } => None,
        }
    }

    /// Where to connect now: one gateway after the other.
    pub(crate) fn gateway(&mut self) -> IpEndpoint {
        let known = self.gateways.iter().flatten().count();
        let gateway = self.gateways.iter().flatten().nth(self.next % known);
        self.next = (self.next + 1) % known;
        *gateway.expect("invariant: a provisioning names at least one gateway")
    }
}

/// Nobody has provisioned it: flash as it comes, or PSRAM without a file.
fn is_unwritten(bad: &Bad) -> bool {
    matches!(bad, Bad::Blank | Bad::NotACopy)
}
