//! `holm new`: the folder of a new app that builds, tests and runs as it is.
//!
//! The function SDK is not on a package registry, so the app depends on it by path: on the checkout
//! that this command was built from, or on the folder given with `--sdk-path`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;

use crate::args::New;
use crate::failure::{Done, Exit, Failure};
use crate::out::Out;

/// Apps to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Counts readings per device and keeps the highest
    Counter,
    /// Raises an alarm at a limit, with hysteresis and telemetry
    Alarm,
    /// Runs every minute, without a device
    Schedule,
}

/// Files of a template: path in the app's folder, and text.
type Files = [(&'static str, &'static str); 6];

impl Template {
    fn files(self) -> Files {
        macro_rules! files {
            ($folder:literal) => {
                [
                    ("Cargo.toml", include_str!("../templates/common/Cargo.toml.txt")),
                    (".gitignore", include_str!("../templates/common/gitignore.txt")),
                    ("README.md", include_str!("../templates/common/README.md")),
                    ("src/lib.rs", include_str!(concat!("../templates/", $folder, "/lib.rs"))),
                    ("holm.toml", include_str!(concat!("../templates/", $folder, "/holm.toml"))),
                    ("event.json", include_str!(concat!("../templates/", $folder, "/event.json"))),
                ]
            };
        }
        match self {
            Self::Counter => files!("counter"),
            Self::Alarm => files!("alarm"),
            Self::Schedule => files!("schedule"),
        }
    }
}

/// `holm new`
///
/// # Errors
/// The name is none, the folder exists, the SDK is not found, or a file cannot be written.
pub fn run(args: &New, out: &Out) -> Done {
    let name = &args.name;
    if sync_protocol::id::check_name(name).is_err() {
        return Err(Failure::usage(format!("`{name}` is no name for an app"))
            .next("use 1 to 63 characters a-z, 0-9 and inner hyphens, such as `cold-chain`"));
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Failure::usage(format!(
            "`{name}` begins with a digit; a Rust package may not"
        ))
        .next(format!("put a letter first, such as `app-{name}`")));
    }
    let dir = crate::app::inside(&args.into, Path::new(name));
    if dir.exists() {
        return Err(Failure::failed(format!("{} exists already", dir.display()))
            .next("choose another name, or --into another folder"));
    }
    let sdk = sdk_path(args.sdk_path.as_deref())?;
    // A TOML string with its escapes.
    let sdk = toml::Value::String(sdk.display().to_string()).to_string();
    let files = args.template.files();
    for (path, text) in files {
        let path = dir.join(path);
        let text = text.replace("@NAME@", name).replace("@SDK@", &sdk);
        write(&path, &text)?;
    }
    let value = json!({ "app": name, "dir": dir, "files": files.map(|(path, _)| path) });
    out.answer(&value, |text, _| {
        text.push_str(&format!("made {}\n\n", dir.display()));
        for step in [
            format!("cd {}", dir.display()),
            "cargo test".to_owned(),
            "holm build".to_owned(),
            format!("holm invoke {name}"),
            "holm dev".to_owned(),
        ] {
            text.push_str(&format!("  {step}\n"));
        }
    })
}

pub(crate) fn write(path: &Path, text: &str) -> Done {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| Failure::file("make", dir, &error))?;
    }
    std::fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
}

/// The folder of the package `function-sdk`, absolute.
pub(crate) fn sdk_path(given: Option<&Path>) -> Done<PathBuf> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../edge-agent/function-sdk");
    let path = given.unwrap_or(&built_from);
    let next = "clone Holm's repository and give --sdk-path CLONE/edge-agent/function-sdk, or set \
                HOLM_SDK_PATH";
    let path = path.canonicalize().map_err(|_| {
        let problem = format!("there is no function SDK in {}", path.display());
        Failure::new(Exit::NotFound, problem).next(next)
    })?;
    let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap_or_default();
    if !manifest.contains("name = \"function-sdk\"") {
        let problem = format!("{} is not the package `function-sdk`", path.display());
        return Err(Failure::new(Exit::NotFound, problem).next(next));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_describes_a_good_app() {
        for template in Template::value_variants() {
            let files = template.files();
            let holm_toml = files.iter().find(|(path, _)| *path == "holm.toml").unwrap().1;
            let problems = crate::app::App::parse(&holm_toml.replace("@NAME@", "hello")).err();
            assert_eq!(problems, None, "{template:?}");
        }
    }

    #[test]
    fn the_sdk_must_be_one() {
        assert!(sdk_path(None).unwrap().ends_with("function-sdk"));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sdk_path(Some(dir.path())).unwrap_err().exit, Exit::NotFound);
        assert_eq!(sdk_path(Some(Path::new("/nowhere"))).unwrap_err().exit, Exit::NotFound);
    }
}
