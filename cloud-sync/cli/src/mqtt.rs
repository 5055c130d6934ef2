//! `holm pub`, `holm sub` and `holm device`: an MQTT 5 client for gateways.
//!
//! # Invariants
//! - A connection that breaks ends the command. rumqttc would connect again and drop without a
//!   word what was not acknowledged; here every message is acknowledged or named as not.
//! - The event loop is never made to wait for anything but itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{ConnectionError, MqttOptions, StateError};
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::args::Broker;
use crate::failure::{Done, Exit, Failure};

mod address;
pub(crate) mod device;
mod publish;
mod subscribe;

pub use publish::run as publish;
pub(crate) use subscribe::print as print_message;
pub use subscribe::run as subscribe;

use address::Address;

const PEM_BYTES_MAX: u64 = 256 << 10;
/// The largest message a gateway can be configured for, and some room for its properties.
const PACKET_BYTES_MAX: u32 = (1 << 20) + (64 << 10);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What is needed to connect.
struct Dial {
    options: MqttOptions,
    timeout: Duration,
    address: Address,
}

impl Dial {
    fn new(args: &Broker) -> Done<Self> {
        let address: Address = args.broker.parse().map_err(Failure::usage)?;
        let id = match &args.client_id {
            Some(id) => id.clone(),
            None => format!("holm-{}", random_hex()?),
        };
        let mut options = MqttOptions::new(id, address.host.clone(), address.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_start(true);
        options.set_max_packet_size(Some(PACKET_BYTES_MAX));
        options.set_connection_timeout(args.timeout.max(1));
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        if let Some(user) = &args.user {
            let password = crate::input::secret(args.password_file.as_deref(), "password")?;
            options.set_credentials(user.clone(), password);
        }
        if address.tls {
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls(args)?)));
        } else {
            check_plain(args, &address)?;
        }
        Ok(Self { options, timeout: Duration::from_secs(args.timeout.max(1)), address })
    }

    /// A failed connection in words.
    fn failure(&self, error: &ConnectionError) -> Failure {
        let (exit, why, next) = explain(error);
        let problem = format!("{}: {why}", self.address);
        let next =
            next.unwrap_or("is a gateway (or `holm dev`) running there? --broker names another");
        Failure::new(exit, problem).next(next)
    }
}

/// A password, or the hope for a secret channel, must not go out in the clear to another machine.
fn check_plain(args: &Broker, address: &Address) -> Done {
    if args.ca.is_some() || args.cert.is_some() {
        let next = format!("write mqtts://{}", address.host);
        return Err(Failure::usage("certificates need an mqtts:// broker").next(next));
    }
    if args.user.is_some() && !address.is_loopback() {
        let problem = "a password is not sent without TLS to another machine";
        return Err(Failure::usage(problem).next("use mqtts:// and --ca FILE"));
    }
    Ok(())
}

fn tls(args: &Broker) -> Done<Arc<rustls::ClientConfig>> {
    let ca = args.ca.as_ref().ok_or_else(|| {
        Failure::usage("mqtts:// needs the authority of the broker's certificate")
            .next("--ca FILE: the authority that made the `certificate` of the gateway's listener")
    })?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| bad_pem(ca, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::failed(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots);
    let config = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => {
            let bytes = crate::failure::read_file(key, PEM_BYTES_MAX)?;
            let private =
                PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| bad_pem(key, &error))?;
            builder
                .with_client_auth_cert(certificates(cert)?, private)
                .map_err(|error| bad_pem(cert, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Done<Vec<CertificateDer<'static>>> {
    let bytes = crate::failure::read_file(path, PEM_BYTES_MAX)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(Failure::input(format!("{} holds no certificate (PEM)", path.display()))),
        Err(error) => Err(bad_pem(path, &error)),
    }
}

fn bad_pem(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::input(format!("{}: {error}", path.display()))
}

/// 64 random bits as 16 hexadecimal digits.
///
/// # Errors
/// The system gives none.
pub fn random_hex() -> Done<String> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 8];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::failed("the system gives no random numbers"))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

pub(crate) fn explain(error: &ConnectionError) -> (Exit, String, Option<&'static str>) {
    use rumqttc::v5::mqttbytes::v5::ConnectReturnCode as Code;
    // TLS 1.3 tells a client that its certificate is refused only after the handshake: as an alert
    // in place of the first answer.
    if error.to_string().contains("received fatal alert") {
        let why = format!("the gateway refused the TLS connection: {error}");
        let next = "is --cert made by the `client_ca` of the gateway's listener, and still valid?";
        return (Exit::Denied, why, Some(next));
    }
    let code = match error {
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => code,
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => {
            let text = reason_string.clone().unwrap_or_default();
            let why = format!("the gateway ended the connection: {reason_code:?} {text}");
            return (Exit::Failed, why.trim().to_owned(), None);
        }
        ConnectionError::Tls(error) => {
            let why = format!("no trusted TLS connection: {error}");
            let next = "is --ca the authority of this gateway, and the host the name in its \
                        certificate?";
            return (Exit::Unreachable, why, Some(next));
        }
        ConnectionError::Timeout(_) => {
            return (Exit::Unreachable, "no answer in time".to_owned(), None);
        }
        other => return (Exit::Unreachable, other.to_string(), None),
    };
    match code {
        Code::BadUserNamePassword | Code::NotAuthorized | Code::Banned => {
            let next = "give --user and --password-file, or --cert and --key, of a known device";
            (Exit::Denied, format!("not let in ({code:?})"), Some(next))
        }
        code => (Exit::Failed, format!("the gateway refused the connection ({code:?})"), None),
    }
}

/// A runtime for one connection.
fn runtime() -> Done<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))
}
