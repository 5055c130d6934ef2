//! Talks to a control plane's HTTP API.
//!
//! # Invariants
//! - The server's certificate must come from the authority in the context; nothing else is trusted
//!   and there is no way around it.
//! - Every wait ends, every answer has a bound.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, http};

use crate::context::Context;
use crate::failure::{Done, Exit, Failure};

const CONNECT_MAX: Duration = Duration::from_secs(10);
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// Larger than any bundle.
const ANSWER_BYTES_MAX: u64 = 128 << 20;
const ERROR_BYTES_MAX: u64 = 64 << 10;

/// A control plane.
#[derive(Clone)]
pub struct Api {
    agent: Agent,
    url: String,
    token: String,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Do.
    Post,
    /// Set.
    Put,
    /// Remove.
    Delete,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

impl Api {
    /// Prepares to talk; nothing is sent yet.
    ///
    /// # Errors
    /// The context is not usable: not `https`, or no certificate in it.
    pub fn new(context: &Context) -> Done<Self> {
        if !context.url.starts_with("https://") {
            return Err(Failure::input(format!("`{}` is not https://HOST:PORT", context.url))
                .next(
                    "`holm cloud init` printed it; the port is 8080 unless --http-port said else",
                ));
        }
        let roots: Vec<Certificate<'static>> = ureq::tls::parse_pem(context.ca.as_bytes())
            .filter_map(|item| match item {
                Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if roots.is_empty() {
            return Err(Failure::input(
                "the authority of the control plane is no certificate (PEM)",
            )
            .next("give the file tls/gateway-ca.pem of the control plane's folder: --ca FILE"));
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_global(Some(REQUEST_MAX))
            .user_agent(concat!("holm/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let url = context.url.trim_end_matches('/').to_owned();
        Ok(Self { agent, url, token: context.token.clone() })
    }

    /// Reads.
    ///
    /// # Errors
    /// See [`Api::call`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Done<T> {
        self.call(Method::Get, path, None::<&()>)
    }

    /// Sends JSON and reads the answer.
    ///
    /// # Errors
    /// The control plane is not reachable, does not allow it, does not know it or refuses it with
    /// its reason; or its answer is not what it should be.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Done<T> {
        let body = match body {
            Some(body) => serde_json::to_vec(body)
                .map_err(|error| Failure::failed(format!("cannot write the request: {error}")))?,
            None => Vec::new(),
        };
        self.send(method, path, "application/json", &body)
    }

    /// Sends bytes and reads the answer.
    ///
    /// # Errors
    /// See [`Api::call`].
    pub fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Done<T> {
        let mut answer = self.request(method, path, content_type, body)?;
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| self.unreachable(&error))?;
        let bytes = if bytes.is_empty() { b"null" } else { bytes.as_slice() };
        serde_json::from_slice(bytes).map_err(|error| {
            Failure::failed(format!("{}{path}: an answer that makes no sense: {error}", self.url))
                .next("are this `holm` and the control plane of the same version?")
        })
    }

    /// Reads an answer as it comes, for as long as it comes.
    ///
    /// # Errors
    /// See [`Api::call`].
    pub fn stream(&self, path: &str) -> Done<impl Read + use<>> {
        let request = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .config()
            .timeout_global(None)
            .build();
        let answer = request.call().map_err(|error| self.unreachable(&error))?;
        Ok(self.accept(path, answer)?.into_body().into_reader())
    }

    /// Whether the control plane answers and knows the token.
    ///
    /// # Errors
    /// See [`Api::call`].
    pub fn probe(&self) -> Done {
        self.get::<Value>("/v1/gateways?limit=1").map(|_| ())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Done<http::Response<Body>> {
        let builder = http::Request::builder()
            .method(method.name())
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", "application/json");
        let sent = match method {
            Method::Get | Method::Delete => builder.body(()).map(|request| self.agent.run(request)),
            Method::Post | Method::Put => builder
                .header("content-type", content_type)
                .body(body)
                .map(|request| self.agent.run(request)),
        };
        let answer = sent
            .map_err(|error| {
                Failure::usage(format!("no request can be made of `{path}`: {error}"))
            })?
            .map_err(|error| self.unreachable(&error))?;
        self.accept(path, answer)
    }

    fn accept(&self, path: &str, mut answer: http::Response<Body>) -> Done<http::Response<Body>> {
        let status = answer.status().as_u16();
        if answer.status().is_success() {
            return Ok(answer);
        }
        let text = answer.body_mut().with_config().limit(ERROR_BYTES_MAX).read_to_string();
        Err(refusal(status, path, &text.unwrap_or_default()))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let problem = format!("{}: {error}", self.url);
        let is_tls = match error {
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => true,
            // What goes wrong in the handshake arrives as an error of reading.
            ureq::Error::Io(error) => {
                matches!(error.get_ref(), Some(inner) if inner.is::<rustls::Error>())
            }
            _ => false,
        };
        let next = if is_tls {
            "its certificate is not from the authority given with `holm login --ca`, or not for \
             this name; the authority is tls/gateway-ca.pem in the control plane's folder"
        } else {
            "is it running (`cloud-sync serve --dir DIR`)? `holm context` shows where it is looked \
             for"
        };
        Failure::new(Exit::Unreachable, problem).next(next)
    }
}

/// What a control plane said no with, in words.
fn refusal(status: u16, path: &str, text: &str) -> Failure {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let said = body["error"].as_str().map(str::to_owned);
    let next = body["hint"].as_str().filter(|hint| !hint.is_empty()).map(str::to_owned);
    let (exit, words, hint) = match status {
        401 => (Exit::Denied, "the token is not known there", Some("`holm login` with a good one")),
        403 => (Exit::Denied, "the token does not allow it", None),
        404 => (Exit::NotFound, "not found", None),
        408 | 504 => (Exit::Timeout, "no answer in time", Some("is the gateway online?")),
        500.. => (Exit::Failed, "the control plane failed", Some("its log says why")),
        _ => (Exit::Failed, "refused", None),
    };
    let problem = said.unwrap_or_else(|| format!("{path}: {words} (HTTP {status})"));
    let next = next.or_else(|| hint.map(str::to_owned));
    Failure { exit, problems: vec![problem], next }
}

/// A text as part of a path or query.
#[must_use]
pub fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_with_an_authority() {
        let context = |url: &str, ca: &str| Context {
            url: url.to_owned(),
            token: "t".to_owned(),
            ca: ca.to_owned(),
        };
        assert_eq!(Api::new(&context("http://x", "")).err().unwrap().exit, Exit::Input);
        assert_eq!(Api::new(&context("https://x", "junk")).err().unwrap().exit, Exit::Input);
    }

    #[test]
    fn refusals_carry_the_reason() {
        let failure = refusal(409, "/v1/x", r#"{"error":"the floor is 3","hint":"build 4"}"#);
        assert_eq!(failure.problems, ["the floor is 3"]);
        assert_eq!((failure.exit, failure.next.as_deref()), (Exit::Failed, Some("build 4")));
        assert_eq!(refusal(404, "/v1/x", "<html>").problems, ["/v1/x: not found (HTTP 404)"]);
        assert_eq!(refusal(401, "/", "").exit, Exit::Denied);
    }

    #[test]
    fn parts_of_paths_are_escaped() {
        assert_eq!(escaped("a/b ä"), "a%2Fb%20%C3%A4");
    }
}
