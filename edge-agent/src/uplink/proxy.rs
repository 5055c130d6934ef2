//! Whether the control plane is dialled directly or through an HTTP proxy, and which: the settings,
//! else the environment (`HTTPS_PROXY`, `NO_PROXY`), as other programs have it.
//!
//! # Invariants
//! - The password is in no text: `Debug` and `Display` leave the login out.
//! - What the environment says and cannot be understood is told, and nothing is dialled past it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::IpAddr;

use sync_protocol::enroll::endpoint;

/// An HTTP proxy that connects to others by `CONNECT`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password.
    pub(super) login: Option<(String, String)>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&endpoint(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

const FORM: &str = "must be http://host:port or http://user:password@host:port; `%40` stands for @ \
                    and `%25` for % in user and password";

impl std::str::FromStr for Proxy {
    /// What is wrong, without any of the text: it may hold a password.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = match text.split_once("://") {
            // A login without a scheme is an address to no other program, and to nobody who looks for secrets.
            None if text.contains('@') => return Err(FORM),
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => {
                return Err("must begin with http://: proxies of other kinds are not spoken to \
                            (what goes through it is TLS from end to end all the same)");
            }
        };
        let (login, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, rest)) => (Some(login), rest),
        };
        let place = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split(place).ok_or(FORM)?;
        let login = match login {
            None => None,
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let (user, password) = (decode(user).ok_or(FORM)?, decode(password).ok_or(FORM)?);
                if user.contains(':') {
                    return Err(
                        "must have a user without a colon: HTTP parts user and password by it",
                    );
                }
                Some((user, password))
            }
        };
        Ok(Self { host, port, login })
    }
}

/// Host and port, each of which may be all there is of an authority.
fn split(place: &str) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once("]:")?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => place.rsplit_once(':').filter(|(host, _)| !host.contains(':'))?,
    };
    is_host(host).then_some(())?;
    Some((host.to_owned(), port.parse().ok().filter(|port| *port > 0)?))
}

/// Whether a text can be a host in a request: nothing that ends a line or a word.
pub(super) fn is_host(host: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "/@?#\\\"<>".contains(c);
    (1..=255).contains(&host.len()) && !host.contains(odd)
}

/// Text with `%41` for each byte that was written so.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

/// What the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Nothing: as the environment says.
    #[default]
    Environment,
    /// None, whatever the environment says.
    Direct,
    /// This one, whatever the environment says.
    Proxy(Proxy),
}

/// How to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Directly.
    Direct,
    /// Through this one.
    Proxy(Proxy),
    /// Not at all: the text says what to mend.
    Bad(String),
}

/// What the environment of a process says.
#[derive(Clone, Default)]
pub struct Environment {
    /// `HTTPS_PROXY`.
    pub https_proxy: Option<OsString>,
    /// `NO_PROXY`.
    pub no_proxy: Option<OsString>,
}

impl fmt::Debug for Environment {
    /// Without what may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("no_proxy", &self.no_proxy).finish_non_exhaustive()
    }
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    /// Both spellings are in use; the small one goes first, as in curl, but for one that says nothing.
    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let named = |names: [&str; 2]| {
            let mut found = names.into_iter().filter_map(&variable);
            found.find(|value| !value.to_string_lossy().trim().is_empty())
        };
        Self {
            https_proxy: named(["https_proxy", "HTTPS_PROXY"]),
            no_proxy: named(["no_proxy", "NO_PROXY"]),
        }
    }

    /// How `host` is dialled.
    ///
    /// # Errors
    /// What is to be mended.
    fn route(&self, host: &str) -> Result<Route, String> {
        const WINS: &str = "or say `proxy` in [uplink] of agent.toml, which wins";
        let Some(proxy) = &self.https_proxy else { return Ok(Route::Direct) };
        let text = |value: &OsStr, name: &str| match value.to_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("{name} must be UTF-8 text; {WINS}")),
        };
        let no_proxy = self.no_proxy.as_deref().map(|value| text(value, "NO_PROXY")).transpose()?;
        if is_excepted(no_proxy.as_deref(), host) {
            return Ok(Route::Direct);
        }
        let proxy = text(proxy, "HTTPS_PROXY")?.trim().parse::<Proxy>();
        proxy.map(Route::Proxy).map_err(|why| format!("HTTPS_PROXY {why}; {WINS}"))
    }
}

impl Choice {
    /// How `host` is dialled.
    #[must_use]
    pub fn route(&self, environment: &Environment, host: &str) -> Route {
        match self {
            Self::Direct => Route::Direct,
            Self::Proxy(proxy) => Route::Proxy(proxy.clone()),
            Self::Environment => environment.route(host).unwrap_or_else(Route::Bad),
        }
    }
}

/// Whether `NO_PROXY` names a host: `*`, the host, a domain that it is in, an address, a network
/// (`10.0.0.0/8`); a port behind a name is passed over.
fn is_excepted(no_proxy: Option<&str>, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    no_proxy.unwrap_or_default().split([',', ' ']).any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        let entry = entry.trim_start_matches("*.").trim_start_matches('.');
        if let Some(address) = address {
            let bare = entry.trim_start_matches('[').trim_end_matches(']');
            return entry == "*" || bare.parse::<IpAddr>() == Ok(address) || is_in(entry, address);
        }
        let name = entry.split_once(':').map_or(entry, |(name, _)| name);
        let is_below = || host.strip_suffix(name).is_some_and(|above| above.ends_with('.'));
        !name.is_empty() && (name == "*" || name == host || is_below())
    })
}

/// Whether an address is in a network, `ADDRESS/BITS`.
fn is_in(network: &str, address: IpAddr) -> bool {
    let Some((base, bits)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let (base, address, all) = match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            (u128::from(base.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => (base.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let Some(rest) = u32::checked_sub(all, bits) else { return false };
    base.checked_shr(rest) == address.checked_shr(rest)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::prelude::*;

    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().expect(text)
    }

    #[test]
    fn proxies_as_people_write_them() {
        let bare = proxy("http://proxy.example:3128");
        assert_eq!((bare.host.as_str(), bare.port, &bare.login), ("proxy.example", 3_128, &None));
        assert_eq!(proxy("proxy.example:3128"), bare);
        assert_eq!(proxy("HTTP://proxy.example:3128/"), bare);
        let login = proxy("http://us%40er:p%3Aw@rd:x@[2001:db8::1]:80");
        assert_eq!((login.host.as_str(), login.port), ("2001:db8::1", 80));
        assert_eq!(login.login, Some(("us@er".to_owned(), "p:w@rd:x".to_owned())));
        assert_eq!(login.to_string(), "[2001:db8::1]:80");
        let wrong = [
            "",
            "http://",
            "proxy.example",
            "http://:80",
            "http://h:0",
            "http://h:65536",
            "https://h:1",
            "socks5://h:1",
            "http://2001:db8::1:80",
            "http://[h]:80",
            "http://h:80/x",
            "http://%:x@h:1",
            "http://%0a:x@h:1",
            "http://a b:80",
            "http://h\r\nx:80",
            "barn:secret@h:1",
            "http:/barn:secret@h:1",
        ];
        for text in wrong {
            text.parse::<Proxy>().expect_err(text);
        }
    }

    proptest! {
        #[test]
        fn no_text_of_a_proxy_holds_its_password(user in "[!-~]{0,20}", password in "[!-~]{8,20}", port in "[0-9]{1,6}") {
            let text = format!("http://{user}:{password}@h:{port}");
            let told = match text.parse::<Proxy>() {
                Ok(proxy) => format!("{proxy} {proxy:?} {:?} {:?}", Choice::Proxy(proxy.clone()), Route::Proxy(proxy.clone())),
                Err(why) => why.to_owned(),
            };
            prop_assert!(!told.contains(&password), "{}", told);
            let environment = Environment { https_proxy: Some(text.into()), no_proxy: None };
            let route = Choice::Environment.route(&environment, "x");
            let told = format!("{environment:?} {route:?}");
            prop_assert!(!told.contains(&password), "{}", told);
        }
    }

    #[test]
    fn the_file_wins_over_the_environment() {
        let environment = Environment {
            https_proxy: Some("http://a:1".into()),
            no_proxy: Some("cloud.example".into()),
        };
        let route = |choice: Choice, host| choice.route(&environment, host);
        assert_eq!(route(Choice::Environment, "x.example"), Route::Proxy(proxy("a:1")));
        assert_eq!(route(Choice::Environment, "cloud.example"), Route::Direct);
        assert_eq!(route(Choice::Direct, "x.example"), Route::Direct);
        let own = Choice::Proxy(proxy("b:2"));
        assert_eq!(route(own, "cloud.example"), Route::Proxy(proxy("b:2")));
        let none = Choice::Environment.route(&Environment::default(), "x.example");
        assert_eq!(none, Route::Direct);
        let odd = Environment { https_proxy: Some("socks5://a:1".into()), no_proxy: None };
        let Route::Bad(why) = Choice::Environment.route(&odd, "x") else { panic!("understood") };
        assert!(why.starts_with("HTTPS_PROXY must begin with http://"), "{why}");
    }

    #[test]
    fn a_small_variable_goes_first_but_for_an_empty_one() {
        let of = |all: &[(&str, &str)]| {
            let find = |name: &str| all.iter().find(|(key, _)| *key == name);
            Environment::of(|name| find(name).map(|(_, value)| value.into()))
        };
        let both = of(&[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "http://b:2")]);
        assert_eq!(both.route("x"), Ok(Route::Proxy(proxy("a:1"))));
        let empty = of(&[
            ("https_proxy", " "),
            ("HTTPS_PROXY", "http://b:2"),
            ("no_proxy", ""),
            ("NO_PROXY", "y"),
        ]);
        assert_eq!(empty.route("x"), Ok(Route::Proxy(proxy("b:2"))));
        assert_eq!(empty.route("y"), Ok(Route::Direct));
        assert_eq!(of(&[("https_proxy", "")]).route("x"), Ok(Route::Direct));
    }

    #[test]
    fn what_is_no_text_is_told_and_nothing_is_dialled_past_it() {
        let odd = || Some(OsString::from_vec(b"http://u:hunter2\xff@a:1".to_vec()));
        for name in ["https_proxy", "HTTPS_PROXY"] {
            let environment = Environment::of(|asked| odd().filter(|_| asked == name));
            let Route::Bad(why) = Choice::Environment.route(&environment, "x") else {
                panic!("passed over")
            };
            assert!(
                why.starts_with("HTTPS_PROXY must be UTF-8") && !why.contains("hunter2"),
                "{why}"
            );
        }
        let mut environment =
            Environment { https_proxy: Some("http://a:1".into()), no_proxy: odd() };
        let why = environment.route("x").expect_err("no text");
        assert!(why.starts_with("NO_PROXY must be UTF-8"), "{why}");
        environment.https_proxy = None;
        assert_eq!(environment.route("x"), Ok(Route::Direct), "it excepts from nothing");
    }

    #[test]
    fn exceptions_as_other_programs_have_them() {
        let cases = [
            ("cloud.example", "cloud.example", true),
            ("CLOUD.example:8883", "cloud.example", true),
            (".example", "cloud.example", true),
            ("*.example", "a.cloud.example", true),
            ("example", "cloud.example", true),
            ("ample", "cloud.example", false),
            ("a, b ,cloud.example", "cloud.example", true),
            ("*", "cloud.example", true),
            ("*", "10.1.2.3", true),
            ("", "cloud.example", false),
            (",", "cloud.example", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.0.0.0/33", "10.1.2.3", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("::1", "::1", true),
            ("[::1]", "::1", true),
            ("2001:db8::/32", "2001:db8::7", true),
            ("2001:db8::/32", "2001:db9::7", false),
            ("10.0.0.0/8", "::1", false),
        ];
        for (entries, host, expected) in cases {
            assert_eq!(is_excepted(Some(entries), host), expected, "{entries} {host}");
        }
    }
}
