//! Sessions of the page: random, in memory, bounded. A restart ends them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, header};

use crate::failure::Failure;
use crate::identity::random;
use crate::limits::{WEB_SESSION_MS, WEB_SESSIONS_MAX};

const COOKIE: &str = "holm_session";

/// Sessions by their secret.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<String, Session>>);

#[derive(Debug)]
struct Session {
    operator: String,
    ends_ms: u64,
}

impl Sessions {
    /// Begins a session and gives the cookie to set. At the bound the one that ends first goes.
    pub(super) fn begin(
        &self,
        operator: String,
        now_ms: u64,
        secure: bool,
    ) -> Result<String, Failure> {
        let secret: [u8; 32] = random().map_err(|error| Failure::internal(error.to_string()))?;
        let secret = hex::encode(secret);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| now_ms < session.ends_ms);
        while sessions.len() >= WEB_SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.ends_ms);
            let Some(oldest) = oldest.map(|(secret, _)| secret.clone()) else { break };
            sessions.remove(&oldest);
        }
        let ends_ms = now_ms.saturating_add(WEB_SESSION_MS);
        sessions.insert(secret.clone(), Session { operator, ends_ms });
        Ok(cookie(&secret, WEB_SESSION_MS / 1_000, secure))
    }

    /// The operator of a request's session.
    pub(super) fn operator(&self, headers: &HeaderMap, now_ms: u64) -> Option<String> {
        let secret = secret(headers)?;
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(secret).filter(|session| now_ms < session.ends_ms)?;
        Some(session.operator.clone())
    }

    /// Ends a request's session and gives the cookie that removes it.
    pub(super) fn end(&self, headers: &HeaderMap, secure: bool) -> String {
        if let Some(secret) = secret(headers) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(secret);
        }
        cookie("", 0, secure)
    }
}

fn cookie(secret: &str, life_s: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age={life_s}{secure}")
}

fn secret(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let pair = cookie.split(';').next().unwrap();
        headers.insert(header::COOKIE, format!("a=b; {pair}").parse().unwrap());
        headers
    }

    #[test]
    fn a_session_lives_until_it_ends() {
        let sessions = Sessions::default();
        let cookie = sessions.begin("admin".into(), 0, true).unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Strict") && cookie.ends_with("; Secure"));
        let headers = headers(&cookie);
        assert_eq!(sessions.operator(&headers, WEB_SESSION_MS - 1), Some("admin".into()));
        assert_eq!(sessions.operator(&headers, WEB_SESSION_MS), None);
        assert_eq!(sessions.operator(&HeaderMap::new(), 0), None);
        sessions.end(&headers, true);
        assert_eq!(sessions.operator(&headers, 0), None);
    }

    #[test]
    fn sessions_are_bounded() {
        let sessions = Sessions::default();
        let first = sessions.begin("first".into(), 0, false).unwrap();
        for n in 1..=WEB_SESSIONS_MAX {
            sessions.begin("other".into(), n as u64, false).unwrap();
        }
        assert_eq!(sessions.0.lock().unwrap().len(), WEB_SESSIONS_MAX);
        assert_eq!(sessions.operator(&headers(&first), 1), None, "the oldest went");
    }
}
