//! Gateways: enrolment, what is known of them, alarms.

use sync_protocol::record::FirmwareStage;
use sync_protocol::wire::Health;
use sync_protocol::{Digest, InstanceId};

use super::{GatewayId, StoreError};

/// A gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayRow {
    /// Key of its rows.
    pub id: GatewayId,
    /// Name.
    pub name: String,
    /// When it was added.
    pub added_ms: u64,
    /// When it last enrolled; `None` before that, and after it was removed.
    pub enrolled_ms: Option<u64>,
    /// Certificates of a lower series are void.
    pub series: u64,
    /// When it was removed. Its data stay, and it may be added again.
    pub removed_ms: Option<u64>,
    /// What it said in its last `Hello`.
    pub seen: Option<SeenRow>,
    /// When anything was last heard of it.
    pub last_seen_ms: Option<u64>,
    /// How it was, and when it said so.
    pub health: Option<(Health, u64)>,
    /// The control plane and generation it last stated.
    pub reported: Option<(InstanceId, u64)>,
}

/// What a gateway said in a `Hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenRow {
    /// Version of the agent.
    pub agent_version: String,
    /// Its platform.
    pub platform: String,
    /// The process run.
    pub epoch: u64,
}

/// An enrolment of a gateway: the newest counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnrolmentRow {
    /// SHA-256 of the token's password.
    pub secret: Digest,
    /// When the token dies.
    pub expires_ms: u64,
    /// What the token was used for.
    pub used: Option<UsedRow>,
}

/// What an enrolment token was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsedRow {
    /// When.
    pub at_ms: u64,
    /// SHA-256 of the signing request.
    pub csr: Digest,
    /// The certificate (DER) that was given.
    pub certificate: Vec<u8>,
}

/// Something an operator must see. One row per gateway and code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AlarmRow {
    /// Number.
    pub id: u64,
    /// The gateway's name.
    pub gateway: String,
    /// Stable code, kebab-case.
    pub code: String,
    /// The last text.
    pub text: String,
    /// How often.
    pub count: u64,
    /// First time.
    pub first_ms: u64,
    /// Last time.
    pub last_ms: u64,
}

/// How far a device is with the image that its gateway offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirmwareRow {
    /// The device.
    pub device: String,
    /// The app whose image it is.
    pub app: String,
    /// Version of the image.
    pub version: u32,
    /// How far it is.
    pub stage: FirmwareStage,
    /// Why it was declined or taken back.
    pub reason: String,
    /// When the report was stored.
    pub at_ms: u64,
}

/// Rows of gateways.
pub(crate) trait FleetRows {
    /// A gateway by name, also one that was removed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn gateway(&self, name: &str) -> Result<Option<GatewayRow>, StoreError>;

    /// A gateway by name that is part of the fleet.
    ///
    /// # Errors
    /// [`StoreError`].
    fn member(&self, name: &str) -> Result<Option<GatewayRow>, StoreError> {
        Ok(self.gateway(name)?.filter(|row| row.removed_ms.is_none()))
    }

    /// Members of the fleet with names after `after`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn gateways(&self, after: &str, limit: u32) -> Result<Vec<GatewayRow>, StoreError>;

    /// How many members there are.
    ///
    /// # Errors
    /// [`StoreError`].
    fn gateway_count(&self) -> Result<u64, StoreError>;

    /// Adds a gateway, or finds the one of that name, which is a member again if it was removed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn add_gateway(&mut self, name: &str, now_ms: u64) -> Result<GatewayId, StoreError>;

    /// The enrolment of a gateway that counts.
    ///
    /// # Errors
    /// [`StoreError`].
    fn enrolment(&self, gateway: GatewayId) -> Result<Option<EnrolmentRow>, StoreError>;

    /// Replaces it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_enrolment(&mut self, gateway: GatewayId, row: &EnrolmentRow) -> Result<(), StoreError>;

    /// The gateway has enrolled: only certificates of this series and later ones are good.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_enrolled(
        &mut self,
        gateway: GatewayId,
        series: u64,
        now_ms: u64,
    ) -> Result<(), StoreError>;

    /// The gateway is no member any more: no token of it counts, and no certificate below this
    /// series.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_removed(
        &mut self,
        gateway: GatewayId,
        series: u64,
        now_ms: u64,
    ) -> Result<(), StoreError>;

    /// The gateway said `Hello`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_seen(&mut self, gateway: GatewayId, seen: &SeenRow) -> Result<(), StoreError>;

    /// Something was heard of the gateway.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_last_seen(&mut self, gateway: GatewayId, now_ms: u64) -> Result<(), StoreError>;

    /// The gateway said how it is.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_health(
        &mut self,
        gateway: GatewayId,
        health: &Health,
        now_ms: u64,
    ) -> Result<(), StoreError>;

    /// The gateway stated its control plane and generation.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_reported(
        &mut self,
        gateway: GatewayId,
        instance: InstanceId,
        generation: u64,
    ) -> Result<(), StoreError>;

    /// Process runs of the gateway, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn epochs(&self, gateway: GatewayId) -> Result<Vec<u64>, StoreError>;

    /// Replaces them.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_epochs(&mut self, gateway: GatewayId, epochs: &[u64]) -> Result<(), StoreError>;

    /// Raises an alarm, or counts one more.
    ///
    /// # Errors
    /// [`StoreError`].
    fn raise_alarm(
        &mut self,
        gateway: GatewayId,
        code: &str,
        text: &str,
        now_ms: u64,
    ) -> Result<(), StoreError>;

    /// Alarms, the last first, of one gateway or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    fn alarms(&self, gateway: Option<GatewayId>, limit: u32) -> Result<Vec<AlarmRow>, StoreError>;

    /// A device has told how far it is; what it told before is replaced.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_firmware(&mut self, gateway: GatewayId, row: &FirmwareRow) -> Result<(), StoreError>;

    /// What devices of a gateway told last, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    fn firmware(&self, gateway: GatewayId, limit: u32) -> Result<Vec<FirmwareRow>, StoreError>;

    /// Removes an alarm that an operator has seen; false when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete_alarm(&mut self, id: u64) -> Result<bool, StoreError>;
}
