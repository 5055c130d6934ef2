//! `[[listeners]]`: where devices connect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;

use edge_broker::transport::tls::RECORD_BYTES_DEFAULT;

use super::{KIB, check_once, size};
use crate::toml_reader::{Problems, Section};

/// One MQTT listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Address.
    pub bind: SocketAddr,
    /// TLS; `None` is plaintext.
    pub tls: Option<ListenerTls>,
}

/// TLS files of a listener, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// CA of device certificates; without it devices use passwords.
    pub client_ca: Option<PathBuf>,
    /// Whether TLS 1.2 is accepted too.
    pub tls12: bool,
    /// Bytes of payload in a record that the gateway sends, at most.
    pub record_bytes_max: usize,
}

pub(super) fn read(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Vec<Listener> {
    let sections = root.sections("listeners", problems);
    let spans: Vec<_> = sections.iter().map(|section| section.span_of("bind")).collect();
    let listeners: Vec<_> =
        sections.into_iter().map(|section| read_one(section, problems)).collect();
    let binds = listeners.iter().zip(spans).filter_map(|(listener, span)| {
        // The system chooses a port of its own for each port 0.
        Some((listener.as_ref()?.bind, span)).filter(|(bind, _)| bind.port() != 0)
    });
    let binds: Vec<_> = binds.collect();
    let texts: Vec<_> = binds.iter().map(|(bind, _)| bind.to_string()).collect();
    let spans = binds.iter().map(|(_, span)| span.clone());
    check_once("the address", texts.iter().map(String::as_str).zip(spans), problems);
    check_all_addresses(&binds, problems);
    listeners.into_iter().flatten().collect()
}

/// All addresses of IPv6 are all addresses.
fn check_all_addresses(binds: &[(SocketAddr, Range<usize>)], problems: &mut Problems<'_>) {
    let all = |bind: &SocketAddr| bind.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED);
    for (bind, span) in binds {
        let port = bind.port();
        let is_taken = binds.iter().any(|(other, _)| all(other) && other.port() == port);
        if bind.ip() == IpAddr::from(Ipv4Addr::UNSPECIFIED) && is_taken {
            let rule = format!("`[::]:{port}` takes IPv4 as well: leave `0.0.0.0:{port}` out");
            problems.add(span, rule);
        }
    }
}

fn read_one(mut section: Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Listener> {
    let bind = section.required("bind", problems);
    let certificate = section.string("certificate", problems);
    let key = section.string("key", problems);
    let client_ca = section.string("client_ca", problems);
    let tls12 = section.boolean("tls12", problems).unwrap_or(false);
    let record = section.bytes_within("record", 512..=16 * KIB, problems);
    let exposed = section.boolean("plaintext_beyond_loopback", problems).unwrap_or(false);
    let span = section.span();
    section.finish(problems);

    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ListenerTls {
            certificate: certificate.value.into(),
            key: key.value.into(),
            client_ca: client_ca.map(|at| at.value.into()),
            tls12,
            record_bytes_max: size(record, RECORD_BYTES_DEFAULT),
        }),
        (None, None) => {
            if let Some(ca) = client_ca {
                problems.add(&ca.span, "`client_ca` needs `certificate` and `key`");
            }
            None
        }
        _ => {
            problems.add(&span, "TLS needs both `certificate` and `key`");
            None
        }
    };
    let Ok(address) = bind.value.parse::<SocketAddr>() else {
        problems.add(&bind.span, "`bind` must be ADDRESS:PORT, for example \"127.0.0.1:1883\"");
        return None;
    };
    if tls.is_none() && !address.ip().is_loopback() && !exposed {
        let rule = "a plaintext listener binds to loopback; give it `certificate` and `key`, or say \
                    `plaintext_beyond_loopback = true` if everyone on that network may read and forge";
        problems.add(&bind.span, rule);
    }
    Some(Listener { bind: address, tls })
}
