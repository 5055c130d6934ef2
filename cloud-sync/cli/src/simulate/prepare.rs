//! `holm simulate prepare`: credentials of many devices, and one account that watches them, for a gateway of one's own.

use std::path::Path;

use device_protocol::provision::{Credential, Gateway, IMAGE_BYTES, Provision, encode_image};
use serde_json::json;
use time::OffsetDateTime;

use super::credentials::{IMAGE, WATCHER, WATCHER_FILE, name_of};
use crate::args::SimulatePrepare;
use crate::device::agent_toml::{self, Account};
use crate::device::{gateway, hex, random, sha256};
use crate::failure::{Done, Failure};
use crate::out::Out;
use crate::secret_file::Staged;

/// What devices may do.
pub(super) const PUBLISH: &str = "sensors/{device}/#";
const SUBSCRIBE: &str = "commands/{device}/#";

/// `holm simulate prepare`
///
/// # Errors
/// A file cannot be written, or the agent's file does not take the lines; nothing is written then.
pub(super) fn run(args: &SimulatePrepare, out: &Out) -> Done {
    let gateway = gateway(&args.gateway)?;
    let dir = &args.credentials;
    let names: Vec<String> = (1..=args.devices).map(name_of).collect();
    let path = |name: &str| dir.join(format!("{name}.{IMAGE}"));
    let missing: Vec<&String> = names.iter().filter(|name| !path(name).exists()).collect();
    let mut staged = Vec::new();
    let mut lines = String::new();
    let issued_unix_s = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0);
    let filters = |given: &[String], default: &str| {
        if given.is_empty() { vec![default.to_owned()] } else { given.to_vec() }
    };
    let publish = filters(&args.publish, PUBLISH);
    for name in &missing {
        let token = hex(&random()?);
        let provision = Provision {
            device: name,
            issued_unix_s,
            gateways: std::iter::once(gateway).collect(),
            server_name: gateway.host,
            credential: Credential::Plain { token: &token },
            author_key: None,
        };
        let mut image = [0; IMAGE_BYTES];
        encode_image(&provision, 1, &mut image)
            .map_err(|error| Failure::usage(format!("this cannot be provisioned: {error}")))?;
        staged.push(Staged::new(&path(name), &image)?);
        let account = Account::TokenSha256(sha256(&token));
        lines.push_str(&agent_toml::device(name, &account, &publish, &[SUBSCRIBE.to_owned()]));
        lines.push('\n');
    }
    let watcher = dir.join(WATCHER_FILE);
    if !watcher.exists() {
        let token = hex(&random()?);
        staged.push(Staged::new(&watcher, token.as_bytes())?);
        let account = Account::TokenSha256(sha256(&token));
        lines.push_str(&agent_toml::device(WATCHER, &account, &[], &["#".to_owned()]));
    }
    let replaced = match &args.agent_toml {
        Some(file) if !lines.is_empty() => {
            let text = agent_toml::appended(file, &lines)?;
            staged.push(agent_toml::replacement(file, &text)?);
            Some(file)
        }
        _ => None,
    };
    staged.into_iter().try_for_each(Staged::keep)?;
    let value = json!({
        "credentials": dir, "made": missing.len(), "devices": args.devices,
        "appended_to": replaced, "agent_toml": lines,
    });
    out.answer(&value, |text, out| tell(args, &gateway, missing.len(), &lines, text, out))
}

fn tell(
    args: &SimulatePrepare,
    gateway: &Gateway<'_>,
    made: usize,
    lines: &str,
    text: &mut String,
    out: &Out,
) {
    let dir: &Path = &args.credentials;
    text.push_str(&format!("made credentials of {made} devices in {}\n", dir.display()));
    match &args.agent_toml {
        _ if lines.is_empty() => text.push_str("all were there already\n"),
        Some(file) => {
            text.push_str(&format!("added them to {}\n", file.display()));
            out.note("the agent knows the devices after its next start");
        }
        None => text.push_str(&format!("for agent.toml of the gateway:\n\n{lines}")),
    }
    if args.devices > 1_000 {
        out.note("each device needs a connection: see `connections` in [limits] of agent.toml");
    }
    text.push_str(&format!(
        "\n  holm simulate --devices {} --gateway {}:{}\n",
        args.devices, gateway.host, gateway.port
    ));
}
