//! What has reached the control plane, asked for again and again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::ledger::Sight;
use super::shared::{Phase, Shared};
use super::watch::reading_of;
use crate::failure::Done;
use crate::http::{Api, escaped};

const PAGE_ROWS: u32 = 1_000;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Telemetry of a gateway, from a place on.
pub(super) struct Telemetry {
    api: Api,
    gateway: String,
    /// The last row that was seen.
    after: Option<u64>,
}

impl Telemetry {
    /// What is stored from now on; what stands there already is passed over.
    ///
    /// # Errors
    /// The control plane does not answer, or does not know the gateway.
    pub(super) fn from_now(api: Api, gateway: &str) -> Done<Self> {
        let path = format!("/v1/telemetry?gateway={}&order=desc&limit=1", escaped(gateway));
        let newest: Value = api.get(&path)?;
        let after = newest["next"].as_u64();
        Ok(Self { api, gateway: gateway.to_owned(), after })
    }

    /// Takes what is new into the ledger.
    fn look(&mut self, shared: &Shared) -> Done {
        loop {
            let mut path = format!(
                "/v1/telemetry?gateway={}&order=asc&limit={PAGE_ROWS}",
                escaped(&self.gateway)
            );
            if let Some(after) = self.after {
                path.push_str(&format!("&after={after}"));
            }
            let page: Value = self.api.get(&path)?;
            let rows = page["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
            if rows.is_empty() {
                return Ok(());
            }
            let mut ledger = shared.ledger();
            for (device, id) in rows.iter().filter_map(|row| reading_of(&row["payload"])) {
                ledger.saw(device, id, Sight::Cloud, false);
            }
            drop(ledger);
            match page["next"].as_u64() {
                Some(next) => self.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Looks until everything ends.
    pub(super) fn follow(mut self, shared: Arc<Shared>) {
        std::thread::spawn(move || {
            while shared.phase() < Phase::Stopped {
                // A control plane that is away comes back: what is stored is stored.
                let _ = self.look(&shared);
                std::thread::sleep(LOOK);
            }
        });
    }
}
