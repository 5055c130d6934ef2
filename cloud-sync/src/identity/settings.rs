//! `cloud.toml`: what is fixed at init and may be edited while the server is down.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sync_protocol::InstanceId;
use sync_protocol::enroll::is_endpoint;

use super::{IdentityError, files};

/// Version of the directory.
const FORMAT: u32 = 1;

/// Names and addresses of a control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Version of the directory; now 1.
    pub format: u32,
    /// Id of this control plane: generations of another one mean nothing here.
    pub instance: InstanceId,
    /// `host:port` at which gateways reach the MQTT listener: it goes into their tokens.
    pub endpoint: String,
    /// Names and addresses in the server's certificate.
    pub names: Vec<String>,
    /// Where the HTTP listener binds.
    pub http: String,
    /// Where the MQTT listener binds.
    pub mqtt: String,
}

impl Settings {
    pub(super) fn new(instance: InstanceId, endpoint: String, names: Vec<String>) -> Self {
        let (http, mqtt) = ("127.0.0.1:8080".to_owned(), "127.0.0.1:8883".to_owned());
        Self { format: FORMAT, instance, endpoint, names, http, mqtt }
    }

    /// Reads the settings of a directory.
    ///
    /// # Errors
    /// [`IdentityError`] when there are none, or what is wrong with them.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join("cloud.toml");
        if !path.exists() {
            return Err(IdentityError::Missing(dir.to_owned()));
        }
        let refuse = |error: String| IdentityError::Settings { path: path.clone(), error };
        let settings: Self =
            toml::from_str(&files::read(&path)?).map_err(|error| refuse(error.to_string()))?;
        settings.check().map_err(refuse)?;
        Ok(settings)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            let found = self.format;
            return Err(format!("format {found} is unknown, this version reads {FORMAT}"));
        }
        if !is_endpoint(&self.endpoint) {
            let rule = "host:port; an IPv6 address stands in brackets, [2001:db8::1]:8883";
            return Err(format!("endpoint {:?} is not {rule}", self.endpoint));
        }
        if self.names.is_empty() {
            return Err("names must hold at least one host name or address".into());
        }
        Ok(())
    }

    pub(super) fn to_toml(&self) -> Result<String, IdentityError> {
        let head = "# A Holm control plane. Edit while the server is stopped.\n";
        let body =
            toml::to_string(self).map_err(|error| IdentityError::Certificate(error.to_string()))?;
        Ok(format!("{head}{body}"))
    }
}
