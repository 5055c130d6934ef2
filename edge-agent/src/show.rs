//! What people see of the `edge-agent` program: logs, status, secrets they asked for.

pub(crate) mod devices;
pub(crate) mod status;

use std::io::{IsTerminal, Read};
use std::sync::Mutex;

use edge_agent::last_errors::LastErrors;
use edge_agent::log_file::LogFile;
use edge_agent::settings::LogFile as LogSettings;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Logs to the configured file, or to standard error; `HOLM_LOG` filters, `HOLM_LOG_FORMAT=json`
/// is for collectors.
///
/// # Errors
/// The file cannot be made.
pub(crate) fn start_logging(settings: Option<LogSettings>) -> Result<(), String> {
    start(settings, None)
}

/// The same, and `errors` keeps the last warnings and errors of what is logged.
///
/// # Errors
/// The file cannot be made.
pub(crate) fn start_logging_and_keep(
    settings: Option<LogSettings>,
    errors: LastErrors,
) -> Result<(), String> {
    start(settings, Some(errors))
}

fn start(settings: Option<LogSettings>, errors: Option<LastErrors>) -> Result<(), String> {
    match settings {
        None => log_to(std::io::stderr, std::io::stderr().is_terminal(), errors),
        Some(settings) => {
            let file = settings.file.display().to_string();
            let log = LogFile::open(settings).map_err(|err| {
                format!("{file}: {err}; make its folder, or let `file` in [log] name another")
            })?;
            log_to(Mutex::new(log), false, errors);
        }
    }
    Ok(())
}

fn log_to(
    writer: impl for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
    colours: bool,
    errors: Option<LastErrors>,
) {
    let filter = filter(std::env::var("HOLM_LOG").ok().as_deref());
    let logs = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry().with(filter);
    if std::env::var("HOLM_LOG_FORMAT").is_ok_and(|format| format == "json") {
        registry.with(logs.json()).with(errors).init();
    } else {
        registry.with(logs.with_ansi(colours)).with(errors).init();
    }
}

/// `LEVEL` or `TARGET=LEVEL`, with commas between them; `info` where nothing is asked for, or nothing
/// that can be read.
fn filter(asked: Option<&str>) -> Targets {
    let asked = asked.map(str::trim).filter(|asked| !asked.is_empty());
    let read = asked.and_then(|asked| asked.parse().ok());
    read.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn stop_signal() -> std::io::Result<()> {
    let (mut term, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A fresh token and the line of the configuration that belongs to it.
pub(crate) fn device_token() -> Result<(), String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "no randomness".to_owned())?;
    let token = hex(&bytes);
    let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    println!("token for the device (shown once): {token}");
    println!("token_sha256 = \"{}\"", hex(hash.as_ref()));
    Ok(())
}

/// Reads a password and prints its hash.
pub(crate) fn device_password() -> Result<(), String> {
    let mut password = String::new();
    std::io::stdin().read_to_string(&mut password).map_err(|err| err.to_string())?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err("give the password on standard input".to_owned());
    }
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| "no randomness".to_owned())?;
    let hash = edge_agent::auth::password::hash_password(password.as_bytes(), salt)?;
    println!("password_argon2 = \"{hash}\"");
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::filter;

    #[test]
    fn a_filter_names_levels_and_targets() {
        let uplink = "edge_agent::uplink::session";
        let at = |asked, target| {
            let levels = [LevelFilter::ERROR, LevelFilter::INFO, LevelFilter::DEBUG];
            let filter = filter(asked);
            let enabled = |level: &&LevelFilter| {
                level.into_level().is_some_and(|level| filter.would_enable(target, &level))
            };
            levels.iter().filter(enabled).count()
        };
        assert_eq!((at(None, uplink), at(Some(" "), uplink)), (2, 2));
        assert_eq!(at(Some("debug"), uplink), 3);
        assert_eq!(at(Some("no such=thing=at all"), uplink), 2);
        let some = Some("error,edge_agent::uplink=debug");
        assert_eq!((at(some, uplink), at(some, "rustls")), (3, 1));
    }
}
