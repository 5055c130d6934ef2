//! Who the device is and where its gateways are: what `holm device add` wrote into its flash.

use core::fmt;

use device_sdk::protocol::DeviceName;
use device_sdk::protocol::provision::{self, Bad, COPY_BYTES, Credential, Provision};
use device_sdk::{Config, Login};

/// The two copies of the provisioning, as they stand in flash.
pub type Copies = [[u8; COPY_BYTES]; 2];

/// See the module.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub name: DeviceName,
    /// All that it was given.
    pub provision: Provision<'static>,
}

/// What carries the device's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TCP without TLS.
    Tcp,
    /// TLS.
    Tls,
    /// A serial line.
    Serial,
}

/// Why the device does not know who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Neither copy in flash counts.
    Flash([Bad; 2]),
    /// Not a name.
    Name,
    /// A credential of this kind does not go with what carries the messages.
    Credential(&'static str, Carrier),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, carrier) = match self {
            Self::Flash([first, second]) => {
                return write!(
                    f,
                    "no provisioning in flash (first copy: {first}; second copy: {second}): write there what \
                     `holm device add` made, as the README says"
                );
            }
            Self::Name => return f.write_str("the provisioned name is none: provision it anew"),
            Self::Credential(kind, carrier) => (kind, carrier),
        };
        let wanted = match carrier {
            Carrier::Tcp => {
                "was built without TLS and takes `--plain`; for others build it with `--features tls`"
            }
            Carrier::Tls => "was built with TLS, which `--plain` goes without",
            Carrier::Serial => "speaks on a serial line and takes `--token` or `--plain`",
        };
        write!(f, "provisioned with a credential of kind {kind}; this firmware {wanted}")
    }
}

impl Identity {
    /// Reads the copy that counts.
    ///
    /// # Errors
    /// [`Problem`].
    pub fn read(copies: &'static Copies, carrier: Carrier) -> Result<Self, Problem> {
        let [first, second] = copies;
        let found = provision::newest([first, second]).map_err(Problem::Flash)?;
        let provision = found.provision;
        let fits = match (&provision.credential, carrier) {
            (Credential::Plain { .. }, Carrier::Tcp | Carrier::Serial)
            | (Credential::Token { .. }, Carrier::Tls | Carrier::Serial)
            | (Credential::Certificate { .. } | Credential::Psk { .. }, Carrier::Tls) => true,
            (Credential::Plain { .. }, Carrier::Tls)
            | (Credential::Token { .. }, Carrier::Tcp)
            | (
                Credential::Certificate { .. } | Credential::Psk { .. },
                Carrier::Tcp | Carrier::Serial,
            ) => false,
        };
        if !fits {
            return Err(Problem::Credential(provision.credential.kind(), carrier));
        }
        let name = DeviceName::new(provision.device).map_err(|_| Problem::Name)?;
        Ok(Self { name, provision })
    }

    /// What it shows as its MQTT password, or on a serial line; empty where it shows none.
    #[must_use]
    pub fn token(&self) -> &'static str {
        match self.provision.credential {
            Credential::Token { token, .. } | Credential::Plain { token } => token,
            Credential::Certificate { .. } | Credential::Psk { .. } => "",
        }
    }

    /// The client's configuration, with its login.
    #[must_use]
    pub fn config(&self) -> Config<'static> {
        let mut config = Config::new(self.name.clone());
        let token = self.token();
        if !token.is_empty() {
            config.login = Some(Login { user: self.provision.device, password: token.as_bytes() });
        }
        config.answer_timeout_ms = crate::ANSWER_MS_MAX;
        config
    }
}

#[cfg(test)]
mod tests {
    use device_sdk::protocol::provision::{Gateway, encode};

    use super::*;

    const CERTIFICATE: Credential<'static> =
        Credential::Certificate { gateway_ca: b"ca", certificate: b"own", key: [7; 32] };
    const TOKEN: Credential<'static> = Credential::Token { gateway_ca: b"ca", token: "secret" };
    const PLAIN: Credential<'static> = Credential::Plain { token: "secret" };

    fn flash(device: &str, credential: Credential<'_>) -> &'static Copies {
        let mut copies = Box::new([[0xFF; COPY_BYTES]; 2]);
        let mut gateways = heapless::Vec::new();
        gateways.push(Gateway { host: "barn-3.local", port: 8883 }).unwrap();
        let issued_unix_s = 1_750_000_000;
        let server_name = "barn-3.local";
        let provision = Provision {
            device,
            issued_unix_s,
            gateways,
            server_name,
            credential,
            author_key: None,
        };
        encode(&provision, 1, &mut copies[1]).unwrap();
        Box::leak(copies)
    }

    #[test]
    fn one_good_copy_is_enough_and_gives_name_and_login() {
        let identity = Identity::read(flash("press-7", TOKEN), Carrier::Tls).unwrap();
        assert_eq!(&*identity.name, "press-7");
        let config = identity.config();
        let login = config.login.unwrap();
        assert_eq!((login.user, login.password), ("press-7", &b"secret"[..]));
        let by_certificate = Identity::read(flash("press-7", CERTIFICATE), Carrier::Tls).unwrap();
        assert!(by_certificate.config().login.is_none());
    }

    #[test]
    fn each_carrier_takes_the_credentials_that_it_can_show() {
        let table = [
            (PLAIN, [true, false, true]),
            (TOKEN, [false, true, true]),
            (CERTIFICATE, [false, true, false]),
        ];
        for (credential, expected) in table {
            let carriers = [Carrier::Tcp, Carrier::Tls, Carrier::Serial];
            for (carrier, expected) in carriers.into_iter().zip(expected) {
                let read = Identity::read(flash("press-7", credential), carrier);
                assert_eq!(read.is_ok(), expected, "{credential:?} {carrier:?}");
                if let Err(problem) = read {
                    assert!(problem.to_string().contains(credential.kind()), "{problem}");
                }
            }
        }
    }

    #[test]
    fn erased_flash_says_what_to_do() {
        let erased = Box::leak(Box::new([[0xFF; COPY_BYTES]; 2]));
        let problem = Identity::read(erased, Carrier::Tcp).unwrap_err();
        assert_eq!(problem, Problem::Flash([Bad::Blank, Bad::Blank]));
        assert!(problem.to_string().contains("holm device add"), "{problem}");
    }
}
