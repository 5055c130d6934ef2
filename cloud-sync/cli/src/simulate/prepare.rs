//! `holm simulate prepare`: credentials of many devices, and one account that watches them, for a gateway of one's own.

use std::path::Path;

use device_protocol::provision::{Gateway, IMAGE_BYTES, Provision, encode_image};
use edge_agent::settings::{Limits, Settings};
use serde_json::json;

use super::ADDRESS;
use super::credentials::{Credentials, DAYS, IMAGE, WATCHER, WATCHER_FILE, name_of, unix_s};
use crate::args::{Global, SimulatePrepare};
use crate::device::agent_toml::{self, Account};
use crate::device::{Secret, address, folder, gateway, hex, random, sha256};
use crate::failure::{Done, Failure};
use crate::out::Out;
use crate::secret_file::Staged;

/// Where a gateway on this machine takes devices with TLS.
const TLS_ADDRESS: &str = "127.0.0.1:8883";
/// What devices may do.
pub(super) const PUBLISH: &str = "sensors/{device}/#";
const SUBSCRIBE: &str = "commands/{device}/#";

/// `holm simulate prepare`
///
/// # Errors
/// A file cannot be written, or the agent's file does not take the lines; nothing is written then.
pub(super) fn run(args: &SimulatePrepare, global: &Global, out: &Out) -> Done {
    if args.folder.ca.is_some() && !args.tls {
        return Err(Failure::usage("--ca goes with --tls"));
    }
    let default = if args.tls { TLS_ADDRESS } else { ADDRESS };
    let gateway = gateway(args.gateway.as_deref().unwrap_or(default))?;
    let dir = &args.credentials;
    let names: Vec<String> = (1..=args.devices).map(name_of).collect();
    let path = |name: &str| dir.join(format!("{name}.{IMAGE}"));
    let (present, missing): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| path(name).exists());
    check_kind(dir, &present, args.tls)?;
    let authorities = args.tls.then(|| folder(&args.folder, global)).transpose()?;
    // All of them are kept at once or none.
    super::raise_open_files(missing.len(), 2)?;
    let mut staged = Vec::new();
    let mut lines = String::new();
    let publish = match args.publish.as_slice() {
        [] => vec![PUBLISH.to_owned()],
        given => given.to_vec(),
    };
    for name in &missing {
        let secret = match &authorities {
            Some(dir) => Secret::certificate(dir, name, DAYS)?,
            None => Secret::plain()?,
        };
        let provision = Provision {
            device: name,
            issued_unix_s: unix_s(),
            gateways: std::iter::once(gateway).collect(),
            server_name: args.server_name.as_deref().unwrap_or(gateway.host),
            credential: secret.credential(),
            author_key: None,
        };
        let mut image = [0; IMAGE_BYTES];
        encode_image(&provision, 1, &mut image)
            .map_err(|error| Failure::usage(format!("this cannot be provisioned: {error}")))?;
        staged.push(Staged::new(&path(name), &image)?);
        if let Some(account) = secret.account() {
            lines.push_str(&agent_toml::device(name, &account, &publish, &[SUBSCRIBE.to_owned()]));
            lines.push('\n');
        }
    }
    let watcher = dir.join(WATCHER_FILE);
    if !watcher.exists() {
        let token = hex(&random()?);
        staged.push(Staged::new(&watcher, token.as_bytes())?);
        let account = Account::TokenSha256(sha256(&token));
        lines.push_str(&agent_toml::device(WATCHER, &account, &[], &["#".to_owned()]));
    }
    let text = match &args.agent_toml {
        Some(file) if !lines.is_empty() => Some((file, agent_toml::appended(file, &lines)?)),
        _ => None,
    };
    if let Some((file, text)) = &text {
        staged.push(agent_toml::replacement(file, text)?);
    }
    staged.into_iter().try_for_each(Staged::keep)?;
    let value = json!({
        "credentials": dir, "made": missing.len(), "devices": args.devices,
        "appended_to": text.as_ref().map(|(file, _)| file), "agent_toml": lines,
    });
    out.answer(&value, |told, out| tell(args, &gateway, missing.len(), &lines, told, out))?;
    let settings = text.and_then(|(_, text)| Settings::parse(&text).ok());
    narrow(args.devices, settings.as_ref()).iter().for_each(|note| out.note(note));
    Ok(())
}

/// What is there already has to be of the kind that is asked for: the devices of a simulation trust the same gateway.
fn check_kind(dir: &Path, present: &[String], is_tls_wanted: bool) -> Done {
    let Some(first) = present.first() else { return Ok(()) };
    let is_tls = Credentials::load(dir, present)?.trust().is_some();
    if is_tls == is_tls_wanted {
        return Ok(());
    }
    let kind = if is_tls { "with" } else { "without" };
    let problem =
        format!("{} was made {kind} TLS", dir.join(first).with_extension(IMAGE).display());
    Err(Failure::input(problem)
        .next("another folder (--credentials DIR), or the same as before: with --tls or without"))
}

/// What of the gateway's limits is too little for so many devices. Without its file: what its defaults are too little for.
fn narrow(devices: u32, settings: Option<&Settings>) -> Vec<String> {
    let limits = settings.map_or_else(Limits::default, |settings| settings.limits.clone());
    let accounts = settings.map_or(0, |settings| settings.devices.len());
    let mut notes = Vec::new();
    if limits.connections_max <= devices as usize {
        let most = limits.connections_max;
        notes.push(format!(
            "each device needs a connection, and one more is needed to watch: `connections` in [limits] of agent.toml is \
             {most}"
        ));
    }
    if (limits.devices_max as usize) < accounts {
        let most = limits.devices_max;
        notes.push(format!(
            "the gateway forgets repeats of more devices than `devices` in [limits] of agent.toml, which is {most} for \
             {accounts} [[devices]]: a reading that is sent again can then come twice"
        ));
    }
    notes
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
    text.push_str(&format!(
        "\n  holm simulate --devices {} --gateway {}\n",
        args.devices,
        address(gateway)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_too_little_are_told() {
        let settings = |limits: &str| {
            let account = |n| format!("[[devices]]\nname = \"d{n}\"\ncertificate = true\n");
            let accounts: String = (0..50).map(account).collect();
            Settings::parse(&format!("name = \"x\"\n{accounts}[limits]\n{limits}")).unwrap()
        };
        assert_eq!(narrow(9_000, None), [""; 0]);
        assert!(
            narrow(10_000, None)[0].contains("`connections` in [limits] of agent.toml is 10000")
        );
        assert_eq!(narrow(50, Some(&settings(""))), [""; 0]);
        let notes = narrow(50, Some(&settings("devices = 49\nconnections = 50\n")));
        assert!(notes[0].contains("is 50") && notes[1].contains("which is 49 for 50"), "{notes:?}");
    }
}
