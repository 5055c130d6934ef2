//! Broker addresses: `mqtt://HOST[:PORT]` and `mqtts://HOST[:PORT]`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    /// Name or address; IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no broker: write mqtt://HOST:PORT or mqtts://HOST:PORT");
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtt", rest)) => (false, rest),
            Some(("mqtts", rest)) => (true, rest),
            Some(_) => return Err(wrong()),
            None => (false, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let default = if tls { 8883 } else { 1883 };
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                (host, port.strip_prefix(':'))
            }
            None => match rest.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = port.map_or(Ok(default), |port| port.parse().map_err(|_| wrong()))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || port == 0 || !host.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("mqtt://gw", "mqtt://gw:1883"),
            ("mqtts://gw-1.local", "mqtts://gw-1.local:8883"),
            ("localhost", "mqtt://localhost:1883"),
            ("127.0.0.1:7000", "mqtt://127.0.0.1:7000"),
            ("mqtts://[::1]:99/", "mqtts://[::1]:99"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for bad in ["", "http://x", "mqtt://", "mqtt://a:b", "mqtt://a:0", "a b", "u:p@h", "[::1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback() {
        let is = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        assert!(is("localhost") && is("127.9.9.9") && is("mqtt://[::1]"));
        assert!(!is("10.0.0.1") && !is("gw"));
    }
}
