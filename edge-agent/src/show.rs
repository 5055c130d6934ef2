//! What people see of the `edge-agent` program: logs, status, secrets they asked for.

pub(crate) mod devices;
pub(crate) mod status;

use std::io::{IsTerminal, Read};
use std::sync::Mutex;

use edge_agent::log_file::LogFile;
use edge_agent::settings::LogFile as LogSettings;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::signal::unix::{SignalKind, signal};

/// Logs to the configured file, or to standard error; `HOLM_LOG` filters, `HOLM_LOG_FORMAT=json`
/// is for collectors.
///
/// # Errors
/// The file cannot be made.
pub(crate) fn start_logging(settings: Option<LogSettings>) -> Result<(), String> {
    match settings {
        None => log_to(std::io::stderr, std::io::stderr().is_terminal()),
        Some(settings) => {
            let file = settings.file.display().to_string();
            let log = LogFile::open(settings).map_err(|err| {
                format!("{file}: {err}; make its folder, or let `file` in [log] name another")
            })?;
            log_to(Mutex::new(log), false);
        }
    }
    Ok(())
}

fn log_to(
    writer: impl for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
    colours: bool,
) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOLM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    if std::env::var("HOLM_LOG_FORMAT").is_ok_and(|format| format == "json") {
        logs.json().init();
    } else {
        logs.with_ansi(colours).init();
    }
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
