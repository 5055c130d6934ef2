//! `holm device`: what devices and their gateways prove themselves with. `docs/devices.md` tells the whole story.
//!
//! # Invariants
//! - The authority of gateways is another one than that of devices.
//! - A secret is in files that only their owner reads, and in no output; of a device's secret no copy is kept.
//! - What is there is not written over, unless `--replace` says so.

pub(crate) mod agent_toml;
pub(crate) mod authority;
mod secret;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use device_protocol::provision::{
    COPY_BYTES, Credential, Found, GATEWAYS_MAX, Gateway, IMAGE_BYTES, Provision, encode_image,
    newest,
};
use ring::rand::SecureRandom as _;
use serde_json::{Value, json};
use sync_protocol::AuthorKey;
use time::OffsetDateTime;

use crate::args::{
    DeviceAdd, DeviceCa, DeviceCommand, DeviceFolder, DeviceListener, DeviceShow, Global,
};
use crate::context;
use crate::failure::{Done, Failure, read_file};
use crate::keys::KeyStore;
use crate::mqtt;
use crate::out::Out;
use crate::secret_file::Staged;

use authority::{Of, PEM_BYTES_MAX};
pub(crate) use secret::Secret;

/// Where devices with TLS connect.
const LISTENER: &str = "0.0.0.0:8883";
const PROVISIONED_ONCE: &str = "a device is provisioned once; choose another --out, or remove it";

/// `holm device`
///
/// # Errors
/// What the command says.
pub fn run(args: &crate::args::Device, global: &Global, out: &Out) -> Done {
    match &args.command {
        DeviceCommand::Ca(args) => ca(args, global, out),
        DeviceCommand::Listener(args) => listener(args, global, out),
        DeviceCommand::Add(args) => add(args, global, out),
        DeviceCommand::Show(args) => show(args, out),
        DeviceCommand::Command(args) => mqtt::device::command(args, out),
        DeviceCommand::Desired(args) => mqtt::device::desired(args, out),
        DeviceCommand::Shadow(args) => mqtt::device::shadow(args, out),
    }
}

/// The folder of the authorities.
pub(crate) fn folder(args: &DeviceFolder, global: &Global) -> Done<PathBuf> {
    match &args.ca {
        Some(dir) => Ok(dir.clone()),
        None => Ok(context::config_dir(global)?.join("devices")),
    }
}

fn ca(args: &DeviceCa, global: &Global, out: &Out) -> Done {
    let dir = folder(&args.folder, global)?;
    authority::create(&dir, OffsetDateTime::now_utc())?;
    let (gateway_ca, device_ca) = (Of::Gateways.certificate(&dir), Of::Devices.certificate(&dir));
    let value = json!({ "dir": dir, "gateway_ca": gateway_ca, "device_ca": device_ca });
    out.answer(&value, |text, _| {
        let _ = write!(
            text,
            "made two authorities in {}; keep a copy in a safe place\n\n  \
             holm device listener GATEWAY --host HOST\n  \
             holm device add NAME --gateway HOST:8883\n",
            dir.display()
        );
    })
}

fn listener(args: &DeviceListener, global: &Global, out: &Out) -> Done {
    name_of(&args.name)?;
    let dir = folder(&args.folder, global)?;
    let files =
        [format!("{}.pem", args.name), format!("{}.key", args.name), "device-ca.pem".to_owned()];
    let [certificate, key, ca] = files.each_ref().map(|file| args.out.join(file));
    let lines = listener_lines(args, &files)?;
    let now = OffsetDateTime::now_utc();
    let issued = authority::listener(&dir, &args.name, &args.host, args.days, now)?;
    let device_ca = read_file(&Of::Devices.certificate(&dir), PEM_BYTES_MAX)?;
    if !args.replace {
        refuse_existing(&certificate, "renew it with --replace")?;
        refuse_existing(&key, "renew it with --replace")?;
        refuse_other(&ca, &device_ca)?;
    }
    // None takes its place before all are on the disk: key and certificate belong together.
    let key_pem = issued.key.serialize_pem();
    let mut staged = vec![
        Staged::new(&key, key_pem.as_bytes())?.owned_by_folder()?,
        Staged::new(&certificate, issued.certificate_pem.as_bytes())?
            .owned_by_folder()?
            .public()?,
        Staged::new(&ca, &device_ca)?.owned_by_folder()?.public()?,
    ];
    if let Some(file) = &args.agent_toml {
        staged.push(agent_toml::replacement(file, &agent_toml::appended(file, &lines)?)?);
    }
    staged.into_iter().try_for_each(Staged::keep)?;
    let value = json!({
        "certificate": certificate, "key": key, "client_ca": ca, "hosts": args.host,
        "expires_unix_s": issued.expires_unix_s, "agent_toml": lines, "appended_to": args.agent_toml,
    });
    out.answer(&value, |text, out| {
        let (made, until) = (certificate.display(), date(issued.expires_unix_s));
        let _ = write!(text, "made {made} and its key, valid until {until}");
        if let Some(file) = &args.agent_toml {
            let _ = writeln!(text, "\nadded the listener to {}", file.display());
            out.note("the agent opens it at its next start");
        } else {
            let _ = write!(text, "; for agent.toml:\n\n{lines}");
        }
    })
}

/// Certificate, key and authority as the gateway finds them.
fn listener_lines(args: &DeviceListener, files: &[String; 3]) -> Done<String> {
    if let Some(at) = args.at.as_ref().filter(|at| !at.is_absolute()) {
        let problem = format!("--at {}: a folder of the gateway begins with /", at.display());
        return Err(Failure::usage(problem).next("for a card image it is --at /etc/holm"));
    }
    let at = args.at.as_ref().unwrap_or(&args.out);
    let [certificate, key, ca] = files.each_ref().map(|file| at.join(file));
    Ok(agent_toml::listener(LISTENER, &certificate, &key, &ca))
}

fn add(args: &DeviceAdd, global: &Global, out: &Out) -> Done {
    name_of(&args.name)?;
    let path = args.out.clone().unwrap_or_else(|| format!("{}.provision", args.name).into());
    refuse_existing(&path, PROVISIONED_ONCE)?;
    let gateways = args.gateway.iter().map(|text| gateway(text)).collect::<Done<Vec<_>>>()?;
    if gateways.len() > GATEWAYS_MAX {
        return Err(Failure::usage(format!("a device knows at most {GATEWAYS_MAX} gateways")));
    }
    let author_key =
        KeyStore::open(global)?.chosen(args.key.as_deref())?.map(|(_, key)| key.public());
    let secret = match args {
        DeviceAdd { psk: true, .. } => Secret::psk(&args.name)?,
        DeviceAdd { plain: true, .. } => Secret::plain()?,
        DeviceAdd { token: true, .. } => Secret::token(&folder(&args.folder, global)?)?,
        _ => Secret::certificate(&folder(&args.folder, global)?, &args.name, args.days)?,
    };
    let lines = secret
        .account()
        .map(|account| agent_toml::device(&args.name, &account, &args.publish, &args.subscribe));
    let agent_toml = appended(args, lines.as_deref())?;
    let provision = Provision {
        device: &args.name,
        issued_unix_s: u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0),
        gateways: gateways.iter().copied().collect(),
        server_name: args.server_name.as_deref().unwrap_or(gateways[0].host),
        credential: secret.credential(),
        author_key: author_key.map(|key| key.to_raw()),
    };
    let mut image = [0; IMAGE_BYTES];
    encode_image(&provision, 1, &mut image)
        .map_err(|error| Failure::usage(format!("this cannot be provisioned: {error}")))?;
    let mut staged = vec![Staged::new(&path, &image)?];
    let psk_file = secret.psk_line(&args.name).map(|line| (beside(&path, "psk"), line));
    if let Some((file, line)) = &psk_file {
        refuse_existing(file, PROVISIONED_ONCE)?;
        staged.push(Staged::new(file, line.as_bytes())?);
    }
    if let Some((file, text)) = &agent_toml {
        staged.push(agent_toml::replacement(file, text)?);
    }
    staged.into_iter().try_for_each(Staged::keep)?;
    let mut value = described(&provision, secret.expires_unix_s());
    value["image"] = json!(path);
    value["psk_file"] = json!(psk_file.as_ref().map(|(file, _)| file));
    value["agent_toml"] = json!(lines);
    value["appended_to"] = json!(args.agent_toml);
    out.answer(&value, |text, out| {
        let _ = writeln!(text, "made {}: flash it, and keep no copy", path.display());
        match (&lines, &agent_toml) {
            (Some(_), Some((file, _))) => {
                let _ = writeln!(text, "added `{}` to {}", args.name, file.display());
                out.note("the agent knows the device after its next start");
            }
            (Some(lines), None) => {
                let _ = write!(text, "for agent.toml of the gateway:\n\n{lines}");
            }
            (None, _) => {}
        }
        if let Some((file, _)) = &psk_file {
            let _ = writeln!(text, "for `psk_file` of the broker: the line in {}", file.display());
        }
    })
}

/// The file that takes the lines, with them.
fn appended<'a>(args: &'a DeviceAdd, lines: Option<&str>) -> Done<Option<(&'a Path, String)>> {
    match (&args.agent_toml, lines) {
        (Some(file), Some(lines)) => Ok(Some((file, agent_toml::appended(file, lines)?))),
        (Some(_), None) => Err(Failure::usage(
            "--agent-toml has nothing to append: this device is none of a Holm gateway's `[[devices]]`",
        )),
        (None, _) => Ok(None),
    }
}

fn show(args: &DeviceShow, out: &Out) -> Done {
    let bytes = read_file(&args.file, 1 << 20)?;
    let (first, second) = bytes.split_at(bytes.len().min(COPY_BYTES));
    let found = newest([first, second]).map_err(|[first, second]| {
        let mut failure = Failure::input(format!("{}: no copy counts", args.file.display()));
        failure.problems.push(format!("first copy: {first}"));
        failure.problems.push(format!("second copy: {second}"));
        failure.next("make an image with `holm device add`")
    })?;
    let value = shown(&found);
    out.answer(&value, |text, _| {
        let fields = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        for (name, value) in fields {
            let value = match value {
                Value::String(word) => word.clone(),
                Value::Array(words) => {
                    let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
                    words.join(", ")
                }
                Value::Number(number) if name.ends_with("_unix_s") => {
                    number.as_u64().map(date).unwrap_or_default()
                }
                other => other.to_string(),
            };
            let name = name.trim_end_matches("_unix_s").replace('_', " ");
            let _ = writeln!(text, "{name:19}{}", crate::out::clean(&value));
        }
    })
}

fn shown(found: &Found<'_>) -> Value {
    let expires = match found.provision.credential {
        Credential::Certificate { certificate, .. } => not_after_unix_s(certificate),
        Credential::Token { .. } | Credential::Psk { .. } | Credential::Plain { .. } => None,
    };
    let mut value = described(&found.provision, expires);
    value["copy"] = json!(found.copy + 1);
    value["generation"] = json!(found.generation);
    value
}

/// What is no secret.
fn described(provision: &Provision<'_>, expires_unix_s: Option<u64>) -> Value {
    let gateways: Vec<_> = provision.gateways.iter().map(address).collect();
    let ca = match provision.credential {
        Credential::Certificate { gateway_ca, .. } | Credential::Token { gateway_ca, .. } => {
            Some(sync_protocol::Digest::of(gateway_ca).to_string())
        }
        Credential::Psk { .. } | Credential::Plain { .. } => None,
    };
    json!({
        "device": provision.device,
        "credential": provision.credential.kind(),
        "gateways": gateways,
        "server_name": provision.server_name,
        "issued_unix_s": provision.issued_unix_s,
        "expires_unix_s": expires_unix_s,
        "gateway_ca_sha256": ca,
        "author_key": provision.author_key.map(|key| AuthorKey::from_raw(key).to_string()),
    })
}

fn not_after_unix_s(der: &[u8]) -> Option<u64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

pub(crate) fn sha256(token: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn random() -> Done<[u8; 32]> {
    let mut bytes = [0; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::failed("the system gives no random numbers"))?;
    Ok(bytes)
}

fn name_of(name: &str) -> Done {
    device_protocol::DeviceName::new(name)
        .map(|_| ())
        .map_err(|error| Failure::usage(format!("`{name}` is no name: {error}")))
}

/// HOST:PORT; an IPv6 address stands in brackets.
pub(crate) fn gateway(text: &str) -> Done<Gateway<'_>> {
    let none = || {
        Failure::usage(format!("`{text}` is not HOST:PORT")).next("for example barn-3.local:8883")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(none)?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(none)?;
    let host = inner.unwrap_or(host);
    if host.is_empty() || (inner.is_none() && host.contains(':')) {
        return Err(none());
    }
    Ok(Gateway { host, port })
}

/// HOST:PORT again.
pub(crate) fn address(at: &Gateway<'_>) -> String {
    match at.host {
        host if host.contains(':') => format!("[{host}]:{}", at.port),
        host => format!("{host}:{}", at.port),
    }
}

/// The same file name with one more ending.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{end}"));
    name.into()
}

/// Devices of another authority would be locked out.
fn refuse_other(path: &Path, bytes: &[u8]) -> Done {
    if path.exists() && read_file(path, PEM_BYTES_MAX)? != bytes {
        let problem = format!("{} is of another authority", path.display());
        return Err(Failure::failed(problem).next(
            "name the folder of that authority with --ca, choose another --out, or write over it with --replace",
        ));
    }
    Ok(())
}

fn refuse_existing(path: &Path, next: &str) -> Done {
    if path.exists() {
        return Err(Failure::failed(format!("there is {} already", path.display())).next(next));
    }
    Ok(())
}

/// The day, in UTC.
fn date(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    time.map_or_else(|| "?".to_owned(), |time| time.date().to_string())
}
