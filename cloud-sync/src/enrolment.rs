//! Adding and removing gateways: one-time tokens, and what they are exchanged for.
//!
//! Invariants:
//! - A token is kept as a hash, lives a day and gives one certificate. Only the very same request
//!   gets the very same answer again, for some minutes, because replies can be lost.
//! - A gateway's newest token replaces the older ones. Once somebody enrols with it, all
//!   certificates that the gateway was given before are void: they are of an earlier series.
//! - A gateway renews its certificate with the old one, also for a while after that has expired; the
//!   new one is of the same series.
//! - A gateway that was removed has no token and no certificate that is good. Its data stay under its
//!   name, and go on when a gateway of that name is added again.
//! - A series is about the Unix second of its begin: after a restore from a backup a new one lies
//!   above those that the backup does not know.

#[cfg(test)]
mod tests;

use sync_protocol::enroll::{EnrollReply, EnrollRequest, Enrolled, Token};
use sync_protocol::id::check_name;
use sync_protocol::{Digest, InstanceId};

use crate::failure::Failure;
use crate::identity::{Authority, IssueError, random};
use crate::limits::{ENROLL_REPLAY_MS, GATEWAYS_MAX, TOKEN_LIFE_MS};
use crate::store::fleet::{EnrolmentRow, GatewayRow, UsedRow};
use crate::store::{self, Rows, Store, StoreError};

/// What every new gateway is told.
pub(crate) struct Office {
    /// Signs gateways.
    pub(crate) ca: Authority,
    /// `host:port` of the MQTT listener.
    pub(crate) endpoint: String,
    /// This control plane.
    pub(crate) instance: InstanceId,
}

/// Adds a gateway, or gives an existing one a new token.
pub(crate) fn add_gateway(
    rows: &mut dyn Rows,
    name: &str,
    endpoint: &str,
    ca: Digest,
    now_ms: u64,
) -> Result<Token, Failure> {
    check_name(name)
        .map_err(|error| Failure::invalid(error.to_string(), "choose a name such as gw-1"))?;
    if rows.member(name)?.is_none() && rows.gateway_count()? >= GATEWAYS_MAX {
        return Err(Failure::conflict(
            format!("there are {GATEWAYS_MAX} gateways already"),
            "use a second control plane",
        ));
    }
    let secret = random().map_err(|error| Failure::internal(error.to_string()))?;
    let token = Token { endpoint: endpoint.to_owned(), gateway: name.to_owned(), secret, ca };
    let gateway = rows.add_gateway(name, now_ms)?;
    let secret = Token::password_digest(&token.password());
    let expires_ms = now_ms.saturating_add(TOKEN_LIFE_MS);
    rows.put_enrolment(gateway, &EnrolmentRow { secret, expires_ms, used: None })?;
    Ok(token)
}

/// Ends a gateway's access. Its data and the history of its deployments stay.
pub(crate) fn remove_gateway(rows: &mut dyn Rows, name: &str, now_ms: u64) -> Result<(), Failure> {
    let gone = || {
        let error = format!("there is no gateway {name:?}");
        Failure::not_found(error, "`holm gateway list` lists the gateways")
    };
    let gateway = rows.member(name)?.ok_or_else(gone)?;
    // What ran there binds nobody any more, such as by the floor of a revision.
    for app in rows.apps_of(gateway.id)? {
        rows.delete_app(gateway.id, &app.app)?;
    }
    rows.set_removed(gateway.id, next_series(&gateway, now_ms), now_ms)?;
    Ok(())
}

fn next_series(gateway: &GatewayRow, now_ms: u64) -> u64 {
    gateway.series.saturating_add(1).max(now_ms / 1_000)
}

/// Whether this password may connect in order to enrol as this gateway.
pub(crate) fn may_enrol(
    rows: &dyn Rows,
    gateway: &str,
    password: &[u8],
    now_ms: u64,
) -> Result<bool, StoreError> {
    let Some(row) = rows.member(gateway)? else { return Ok(false) };
    let Some(enrolment) = rows.enrolment(row.id)? else { return Ok(false) };
    let open = match &enrolment.used {
        Some(used) => replays(used, now_ms),
        None => now_ms < enrolment.expires_ms,
    };
    // Both sides are hashes of 256 random bits: how long the comparison takes tells nothing.
    Ok(open && Digest::of(password) == enrolment.secret)
}

fn replays(used: &UsedRow, now_ms: u64) -> bool {
    now_ms < used.at_ms.saturating_add(ENROLL_REPLAY_MS)
}

impl Office {
    /// Exchanges a signing request for a certificate. Who asks was authenticated by
    /// [`may_enrol`].
    pub(crate) fn enrol(
        &self,
        store: &dyn Store,
        gateway: &str,
        request: &EnrollRequest,
        now_ms: u64,
    ) -> EnrollReply {
        let outcome = store::write(store, |rows| {
            let certificate = self.certificate(rows, gateway, &request.csr, now_ms)?;
            let author_keys = rows.authors()?.into_iter().map(|author| author.key).collect();
            Ok::<_, Failure>(Enrolled {
                certificate,
                gateway_ca: self.ca.certificate().to_vec(),
                endpoint: self.endpoint.clone(),
                instance: self.instance,
                author_keys,
            })
        });
        match outcome {
            Ok(enrolled) => {
                tracing::info!(gateway, "a gateway is enrolled");
                EnrollReply::Accepted(Box::new(enrolled))
            }
            Err(failure) => {
                tracing::warn!(gateway, error = failure.error, "a gateway was not enrolled");
                EnrollReply::Refused { reason: format!("{}; {}", failure.error, failure.hint) }
            }
        }
    }

    /// A new certificate for a gateway that its old one has authenticated, of the same series: who
    /// came with one that became void meanwhile gets none that is good.
    pub(crate) fn renew(
        &self,
        store: &dyn Store,
        gateway: &str,
        series: u64,
        request: &EnrollRequest,
        now_ms: u64,
    ) -> Result<Vec<u8>, Failure> {
        let known = store::read(store, |rows| Ok::<_, Failure>(rows.member(gateway)?))?;
        let add = "`holm gateway add` gives a token";
        let Some(known) = known else {
            return Err(Failure::not_found(format!("there is no gateway {gateway:?}"), add));
        };
        if series < known.series {
            return Err(Failure::conflict("the old certificate is void", add));
        }
        let refused =
            |error: IssueError| Failure::invalid(error.to_string(), "send a PKCS#10 request");
        self.ca.issue_gateway(gateway, series, &request.csr, now_ms).map_err(refused)
    }

    fn certificate(
        &self,
        rows: &mut dyn Rows,
        gateway: &str,
        csr: &[u8],
        now_ms: u64,
    ) -> Result<Vec<u8>, Failure> {
        let again = "`holm gateway add` gives a new token";
        let gone = || Failure::not_found(format!("there is no token for {gateway:?}"), again);
        let row = rows.member(gateway)?.ok_or_else(gone)?;
        let enrolment = rows.enrolment(row.id)?.ok_or_else(gone)?;
        let digest = Digest::of(csr);
        if let Some(used) = enrolment.used {
            if used.csr == digest && replays(&used, now_ms) {
                return Ok(used.certificate);
            }
            return Err(Failure::conflict("the token was used already", again));
        }
        if now_ms >= enrolment.expires_ms {
            return Err(Failure::conflict("the token is too old", again));
        }
        let series = next_series(&row, now_ms);
        let certificate = self
            .ca
            .issue_gateway(gateway, series, csr, now_ms)
            .map_err(|error| Failure::invalid(error.to_string(), "send a PKCS#10 request"))?;
        let used = UsedRow { at_ms: now_ms, csr: digest, certificate: certificate.clone() };
        rows.put_enrolment(row.id, &EnrolmentRow { used: Some(used), ..enrolment })?;
        rows.set_enrolled(row.id, series, now_ms)?;
        Ok(certificate)
    }
}
