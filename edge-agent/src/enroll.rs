//! `edge-agent enroll TOKEN`: a one-time token becomes a certificate.
//!
//! The key pair is made here and kept until the reply is on disk, so that a lost reply costs
//! nothing: the same request within the token's grace gets the same answer.

use std::io;
use std::path::Path;
use std::time::Duration;

use sync_protocol::enroll::{EnrollReply, EnrollRequest, Token};
use sync_protocol::topics;
use sync_protocol::wire::Message;

use crate::backup::{self, BackupError};
use crate::identity::{Identity, split_endpoint};
use crate::tls::{self, TimeFloor};
use crate::uplink::backoff::Backoff;
use crate::uplink::mqtt::{self, Endpoint, Report};
use crate::uplink::proxy::{Choice, Environment};

/// How long enrolment tries.
pub const ENROLL_MAX: Duration = Duration::from_secs(60);

/// Why a gateway could not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The control plane says no.
    #[error("the control plane refused: {0}")]
    Refused(String),
    /// The control plane does not let this token in.
    #[error(
        "the control plane does not accept this token: it was used, is older than a day, or \
         `holm gateway add {0}` printed a newer one; run that again"
    )]
    Token(String),
    /// The way there is barred; the text says what to do.
    #[error("{0}")]
    Barred(String),
    /// Nobody answered in time.
    #[error(
        "no answer from {endpoint} within {} s; last error: {last}; does the control plane run \
         (`cloud-sync serve`), and can this machine reach it under that name?",
        ENROLL_MAX.as_secs()
    )]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Last error of the transport.
        last: String,
    },
    /// The answer is not understood.
    #[error("the control plane's answer is not understood: {0}")]
    Wire(#[from] sync_protocol::wire::WireError),
    /// No key could be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
    /// A reset that was cut off.
    #[error("a reset was cut off, and cannot be finished: {0}")]
    Reset(#[from] BackupError),
    /// The data directory cannot be used.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Enrols and writes the identity into the data directory; `proxy` is what the settings say of one.
///
/// # Errors
/// See [`EnrollError`].
pub async fn enroll(
    token: &Token,
    data_dir: &Path,
    proxy: &Choice,
) -> Result<Identity, EnrollError> {
    std::fs::create_dir_all(data_dir)?;
    // It may be meant for the identity, and not for the one that comes now.
    backup::finish_reset(data_dir)?;
    let key = pending_key(data_dir)?;
    let csr = rcgen::CertificateParams::default().serialize_request(&key)?;
    let request = EnrollRequest { csr: csr.der().to_vec() }.encode()?;
    let (host, port) = split_endpoint(&token.endpoint)?;
    let endpoint = Endpoint {
        route: proxy.route(&Environment::of_process(), &host),
        host,
        port,
        client_id: format!("{}-enroll", token.gateway),
        login: Some((token.gateway.clone(), token.password())),
        keep_alive: mqtt::KEEP_ALIVE,
        subscribe: topics::enroll_reply(&token.gateway),
        will: None,
        tls: tls::pinned(token.ca.0, TimeFloor::new(0))?,
    };
    let reply = ask(endpoint, token, request).await?;
    match EnrollReply::decode(&reply)? {
        EnrollReply::Refused { reason } => Err(EnrollError::Refused(reason)),
        EnrollReply::Accepted(enrolled) => {
            let identity = Identity::new(token.gateway.clone(), key.serialize_der(), *enrolled);
            identity.save(data_dir)?;
            std::fs::remove_file(pending_path(data_dir))?;
            Ok(identity)
        }
    }
}

async fn ask(
    endpoint: Endpoint,
    token: &Token,
    request: Vec<u8>,
) -> Result<bytes::Bytes, EnrollError> {
    let mut last = String::from("none");
    let (sender, mut receiver, polling) = mqtt::connect(endpoint, Backoff::new(1));
    let polling = tokio::spawn(polling);
    let conversation = async {
        loop {
            match receiver.next().await {
                Some(Report::Connected) => {
                    let topic = topics::enroll_request(&token.gateway);
                    sender.publish(&topic, false, request.clone()).await;
                }
                Some(Report::Message(bytes)) => return Ok(Some(bytes)),
                // The return code of MQTT 3.1.1 for a wrong password; to ask again changes nothing.
                Some(Report::Disconnected(why)) if why.contains("BadUserNamePassword") => {
                    return Err(EnrollError::Token(token.gateway.clone()));
                }
                Some(Report::Barred(why)) => return Err(EnrollError::Barred(why)),
                Some(Report::Disconnected(why)) => last = why,
                None => return Ok(None),
            }
        }
    };
    let reply = tokio::time::timeout(ENROLL_MAX, conversation).await;
    polling.abort();
    reply
        .unwrap_or(Ok(None))?
        .ok_or_else(|| EnrollError::Unreachable { endpoint: token.endpoint.clone(), last })
}

fn pending_path(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("enrolling.key")
}

/// The key of an enrolment that was cut off, or a new one.
fn pending_key(data_dir: &Path) -> Result<rcgen::KeyPair, EnrollError> {
    let path = pending_path(data_dir);
    if let Ok(pem) = std::fs::read_to_string(&path)
        && let Ok(key) = rcgen::KeyPair::from_pem(&pem)
    {
        return Ok(key);
    }
    let key = rcgen::KeyPair::generate()?;
    tls::write_secret(&path, key.serialize_pem().as_bytes())?;
    Ok(key)
}
