//! Deployments and what gateways report about them.

use sync_protocol::Digest;
use sync_protocol::record::Phase;

use super::{GatewayId, StoreError};

/// A deployment: from then on these gateways should run this revision of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeploymentRow {
    /// Number: about the Unix seconds at which it was made, always above the ones before.
    pub id: u64,
    /// Which app.
    pub app: String,
    /// Which revision; `None`: the app goes.
    pub revision: Option<Digest>,
    /// Why it was made.
    pub cause: Cause,
    /// For which gateways.
    pub target: Target,
    /// Who made it.
    pub by: String,
    /// When.
    pub created_ms: u64,
}

/// Why a deployment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An operator chose a revision.
    Deploy,
    /// Back to the revision before.
    Rollback,
    /// The app goes.
    Undeploy,
}

impl Cause {
    /// Stable text.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Undeploy => "undeploy",
        }
    }
}

/// For which gateways a deployment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// All, also those that come later.
    All,
    /// These, by name, sorted, each once.
    Gateways(Vec<String>),
}

/// What a gateway should run of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DesiredRow {
    /// Which app.
    pub app: String,
    /// The deployment that says so.
    pub deployment: u64,
    /// Which revision; `None`: none.
    pub revision: Option<Digest>,
}

/// What a gateway says about one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppRow {
    /// Which app.
    pub app: String,
    /// The revision that `phase` speaks of.
    pub revision: Digest,
    /// How far it is.
    pub phase: Phase,
    /// Why.
    pub reason: String,
    /// The revision that runs.
    pub running: Option<Digest>,
    /// The generation it had taken then.
    pub generation: u64,
    /// When it said so (clock of the control plane).
    pub at_ms: u64,
}

/// A step in the history of a gateway's deployments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepRow {
    /// What it said; with no revision running and none named, the app was gone.
    pub app: AppRow,
    /// Whether the app was gone.
    pub gone: bool,
}

/// Rows of deployments.
pub(crate) trait DeploymentRows {
    /// A deployment by its number.
    ///
    /// # Errors
    /// [`StoreError`].
    fn deployment(&self, id: u64) -> Result<Option<DeploymentRow>, StoreError>;

    /// Deployments with a number below `before`, newest first, of one app or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    fn deployments(
        &self,
        app: Option<&str>,
        before: u64,
        limit: u32,
    ) -> Result<Vec<DeploymentRow>, StoreError>;

    /// Adds a deployment; its `id` is ignored and the new one returned.
    ///
    /// # Errors
    /// [`StoreError`].
    fn add_deployment(&mut self, row: &DeploymentRow) -> Result<u64, StoreError>;

    /// Deployments that are added from now on have numbers above this one.
    ///
    /// # Errors
    /// [`StoreError`].
    fn skip_deployments_to(&mut self, number: u64) -> Result<(), StoreError>;

    /// What is added to numbers of deployments to make the generations of a gateway.
    ///
    /// # Errors
    /// [`StoreError`].
    fn generation_base(&self, gateway: GatewayId) -> Result<u64, StoreError>;

    /// Replaces it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_generation_base(&mut self, gateway: GatewayId, base: u64) -> Result<(), StoreError>;

    /// What a gateway should run: for each app the newest deployment that is for it, in order of
    /// app.
    ///
    /// # Errors
    /// [`StoreError`].
    fn desired(&self, gateway: GatewayId) -> Result<Vec<DesiredRow>, StoreError>;

    /// What a gateway last said about its apps, in order of app.
    ///
    /// # Errors
    /// [`StoreError`].
    fn apps_of(&self, gateway: GatewayId) -> Result<Vec<AppRow>, StoreError>;

    /// Takes what a gateway says about an app.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_app(&mut self, gateway: GatewayId, row: &AppRow) -> Result<(), StoreError>;

    /// The app is no longer on the gateway.
    ///
    /// # Errors
    /// [`StoreError`].
    fn delete_app(&mut self, gateway: GatewayId, app: &str) -> Result<(), StoreError>;

    /// Adds to the history of a gateway and drops its oldest steps over the bound.
    ///
    /// # Errors
    /// [`StoreError`].
    fn add_step(&mut self, gateway: GatewayId, step: &StepRow) -> Result<(), StoreError>;

    /// The history of a gateway, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn steps(&self, gateway: GatewayId, limit: u32) -> Result<Vec<StepRow>, StoreError>;

    /// The highest floor of the revisions of an app that some gateway reports as live.
    ///
    /// # Errors
    /// [`StoreError`].
    fn live_floor(&self, app: &str) -> Result<u64, StoreError>;
}
