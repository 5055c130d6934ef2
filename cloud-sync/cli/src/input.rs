//! Reading what the user names: files, `-` for standard input, secrets.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use crate::failure::{Done, Failure, read_file};

const SECRET_BYTES_MAX: u64 = 4 << 10;

/// Bytes of a file, or of standard input for `-`.
///
/// # Errors
/// It cannot be read or is over `bytes_max`.
pub fn bytes(path: &Path, bytes_max: u64) -> Done<Vec<u8>> {
    if path.as_os_str() != "-" {
        return read_file(path, bytes_max);
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > bytes_max {
        let limit = crate::out::size(bytes_max);
        return Err(Failure::input(format!("standard input is larger than {limit}")));
    }
    Ok(bytes)
}

/// As [`bytes`], as text.
///
/// # Errors
/// Also when it is not UTF-8.
pub fn text(path: &Path, bytes_max: u64) -> Done<String> {
    String::from_utf8(bytes(path, bytes_max)?)
        .map_err(|_| Failure::input(format!("{} is not UTF-8 text", path.display())))
}

/// A secret from a file or from standard input (also without a file, unless that is a terminal):
/// never from the command line, where others on the machine could read it.
///
/// # Errors
/// It cannot be read, or is empty.
pub fn secret(path: Option<&Path>, what: &str) -> Done<String> {
    let stdin = Path::new("-");
    let path = path.unwrap_or(stdin);
    if path == stdin && std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("no {what} was given"))
            .next(format!("pipe it to standard input, or --{what}-file FILE")));
    }
    let text = text(path, SECRET_BYTES_MAX)?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(Failure::input(format!("the {what} is empty")));
    }
    Ok(secret.to_owned())
}
