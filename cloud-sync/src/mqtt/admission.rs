//! Who may connect, and with what grants.

use std::sync::Arc;

use edge_broker::codec::ReasonCode;
use edge_broker::{AuthRequest, PeerCertificate, Principal};
use edge_core::id::DeviceId;
use edge_core::topic::TopicFilter;
use sync_protocol::id::is_name;
use sync_protocol::topics;

use crate::enrolment::may_enrol;
use crate::identity::series_of;
use crate::ingest::alarm;
use crate::limits::VOID_CERTIFICATE_TOLD_MS;
use crate::store::fleet::{AlarmRow, GatewayRow};
use crate::store::{self, Store, StoreError};

/// Identities of gateways that enrol: no certificate can name one, so they never meet a session
/// of an enrolled gateway.
const ENROLLING: &str = "enrolling/";
/// Alarms of one gateway: one for each code.
const ALARM_KINDS_MAX: u32 = 100;

/// Decides about a CONNECT. It reads the store and may block.
pub(crate) fn admit(
    store: &dyn Store,
    request: &AuthRequest,
    now_ms: u64,
) -> Result<Arc<Principal>, ReasonCode> {
    let verdict = match &request.peer.certificate {
        Some(certificate) => by_certificate(store, certificate, &request.client_id, now_ms),
        None => by_token(store, request, now_ms),
    };
    match verdict {
        Ok(Ok(principal)) => Ok(Arc::new(principal)),
        Ok(Err(reason)) => Err(reason),
        Err(error) => {
            tracing::error!(%error, "a gateway could not be authenticated");
            Err(ReasonCode::ServerUnavailable)
        }
    }
}

type Verdict = Result<Result<Principal, ReasonCode>, StoreError>;

fn by_certificate(
    store: &dyn Store,
    shown: &PeerCertificate,
    client_id: &str,
    now_ms: u64,
) -> Verdict {
    let name = shown.common_name.as_str();
    if !is_name(name) {
        return Ok(Err(ReasonCode::NotAuthorized));
    }
    let Some(gateway) = store::read(store, |rows| rows.member(name))? else {
        return Ok(Err(ReasonCode::NotAuthorized));
    };
    if series_of(&shown.serial) < gateway.series {
        tracing::warn!(gateway = name, "its certificate is void: it was removed or enrolled anew");
        if let Err(error) = tell_of_old(store, &gateway, now_ms) {
            tracing::error!(%error, "an alarm could not be raised");
        }
        return Ok(Err(ReasonCode::NotAuthorized));
    }
    // One client id for each gateway: so a second connection takes the place of the first.
    if client_id != name {
        return Ok(Err(ReasonCode::ClientIdentifierNotValid));
    }
    let publish = [topics::up(name), topics::presence(name)];
    Ok(principal(name, &publish, &[topics::down(name)]))
}

/// Whoever was replaced is back, or never left. It tries again and again: told once an hour.
fn tell_of_old(store: &dyn Store, gateway: &GatewayRow, now_ms: u64) -> Result<(), StoreError> {
    let code = alarm::VOID_CERTIFICATE;
    let alarms = store::read(store, |rows| rows.alarms(Some(gateway.id), ALARM_KINDS_MAX))?;
    let is_recent = |row: &AlarmRow| {
        row.code == code && now_ms < row.last_ms.saturating_add(VOID_CERTIFICATE_TOLD_MS)
    };
    if alarms.iter().any(is_recent) {
        return Ok(());
    }
    let text = "a certificate from before this gateway was enrolled anew was shown, and refused: the \
                machine that was replaced is back, or its agent was not restarted since \
                `edge-agent enroll`";
    store::write(store, |rows| rows.raise_alarm(gateway.id, code, text, now_ms))
}

fn by_token(store: &dyn Store, request: &AuthRequest, now_ms: u64) -> Verdict {
    let refused = Ok(Err(ReasonCode::BadUserNameOrPassword));
    let (Some(name), Some(password)) = (&request.username, &request.password) else {
        return refused;
    };
    if !is_name(name) || !store::read(store, |rows| may_enrol(rows, name, password, now_ms))? {
        return refused;
    }
    let identity = format!("{ENROLLING}{name}");
    Ok(principal(&identity, &[topics::enroll_request(name)], &[topics::enroll_reply(name)]))
}

fn principal(
    identity: &str,
    publish: &[String],
    subscribe: &[String],
) -> Result<Principal, ReasonCode> {
    let filters = |texts: &[String]| -> Result<Vec<TopicFilter>, ReasonCode> {
        let parse = |text: &String| TopicFilter::new(text).map_err(|_| ReasonCode::Unspecified);
        texts.iter().map(parse).collect()
    };
    Ok(Principal {
        identity: DeviceId::new(identity),
        publish: filters(publish)?,
        subscribe: filters(subscribe)?,
    })
}
