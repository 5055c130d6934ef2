//! What an image brings for its first boot: configuration, token of enrolment, Wi-Fi, SSH key.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sync_protocol::enroll::Token;

use super::wifi::Network;
use crate::command::built;

/// Files that a configuration may have, and bytes of each.
const FILES_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Files that lie in `holm/` of the boot partition until the first boot takes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seed {
    /// Path below `holm/`, contents.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// Name of the gateway.
    pub(crate) gateway: String,
}

/// Where a seed comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources<'a> {
    /// Folder with `agent.toml` and what it names.
    pub(crate) config: Option<&'a Path>,
    /// What `holm gateway add` printed.
    pub(crate) token: Option<&'a str>,
    /// File with public keys.
    pub(crate) ssh_key: Option<&'a Path>,
    /// The network that it joins without a cable.
    pub(crate) wifi: Option<Network>,
    /// Lines of `image.conf`.
    pub(crate) settings: Vec<String>,
}

impl Seed {
    /// Reads and checks everything, before anything is built.
    pub(crate) fn read(sources: &Sources<'_>) -> Result<Self> {
        let token = sources.token.map(parse_token).transpose()?;
        let mut files = match sources.config {
            Some(dir) => read_config(dir)?,
            None => vec![default_config(token.as_ref())],
        };
        let gateway = gateway_name(&files)?;
        if let (Some(token), Some(text)) = (&token, sources.token) {
            ensure!(
                token.gateway == gateway,
                "the token is for {:?}, the configuration names {gateway:?}",
                token.gateway
            );
            files.push(("enroll-token".to_owned(), format!("{}\n", text.trim()).into_bytes()));
        }
        if let Some(file) = sources.ssh_key {
            files.push(("authorized_keys".to_owned(), read_ssh_key(file)?));
        }
        if let Some(network) = &sources.wifi {
            files.push(("wifi.conf".to_owned(), network.to_config().into_bytes()));
        }
        if !sources.settings.is_empty() {
            let text = sources.settings.join("\n") + "\n";
            files.push(("image.conf".to_owned(), text.into_bytes()));
        }
        files.sort();
        Ok(Self { files, gateway })
    }

    /// Whether the boot loader has to tell the first start that it leaves the watchdog alone.
    pub(crate) fn is_watchdog_off(&self) -> bool {
        let settings = self.files.iter().find(|(name, _)| name == "image.conf");
        let text = settings.map(|(_, text)| String::from_utf8_lossy(text)).unwrap_or_default();
        let mut said = text.lines().filter_map(|line| line.strip_prefix("WATCHDOG="));
        said.next_back() == Some("off")
    }
}

fn parse_token(text: &str) -> Result<Token> {
    text.parse().map_err(|error| anyhow::anyhow!("--enroll: {error}"))
}

/// A configuration that begins without devices from outside.
fn default_config(token: Option<&Token>) -> (String, Vec<u8>) {
    let name = token.map_or("gateway", |token| token.gateway.as_str());
    let text = format!(
        "# Made with the image. docs/agent-toml.md has everything that can stand here.\n\
         name = \"{name}\"\n\n\
         [[listeners]]\nbind = \"127.0.0.1:1883\"\n\n\
         [anonymous]\npublish = [\"#\"]\nsubscribe = [\"#\"]\n"
    );
    ("config/agent.toml".to_owned(), text.into_bytes())
}

fn read_config(dir: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let shown = dir.display();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("--config {shown}"))? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().filter(|name| is_plain(name));
        let name = name.with_context(|| {
            format!("{}: a name has letters, digits, `.`, `-` and `_` only", entry.path().display())
        })?;
        let facts = entry.path().metadata()?;
        ensure!(facts.is_file(), "{shown}/{name} is no file; --config takes a folder of files");
        ensure!(facts.len() <= FILE_BYTES_MAX, "{shown}/{name} has over {FILE_BYTES_MAX} bytes");
        files.push((format!("config/{name}"), std::fs::read(entry.path())?));
    }
    ensure!(files.len() <= FILES_MAX, "{shown} has more than {FILES_MAX} files");
    let has_config = files.iter().any(|(name, _)| name == "config/agent.toml");
    ensure!(has_config, "{shown} has no agent.toml (docs/agent-toml.md)");
    check_by_agent(&dir.join("agent.toml"))?;
    Ok(files)
}

/// The judgement of an agent for this machine, where one was built: on the board nobody would see it.
fn check_by_agent(config: &Path) -> Result<()> {
    let agent = built("edge-agent")?;
    if !agent.is_file() {
        return Ok(());
    }
    let output = Command::new(agent).arg("check").arg(config).output().context("edge-agent")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(())
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !name.starts_with('.') && name.len() <= 100 && name.bytes().all(plain)
}

/// The name of the gateway. Files that `agent.toml` names below `/etc/holm` have to be there; the agent itself judges
/// the rest.
fn gateway_name(files: &[(String, Vec<u8>)]) -> Result<String> {
    let found = files.iter().find(|(name, _)| name == "config/agent.toml");
    let (_, text) = found.context("invariant: a configuration has an agent.toml")?;
    let text = std::str::from_utf8(text).context("agent.toml is not UTF-8")?;
    let config: toml::Value = toml::from_str(text).context("agent.toml")?;
    let mut missing = Vec::new();
    missing_files(&config, files, &mut missing);
    ensure!(
        missing.is_empty(),
        "agent.toml names what is not in the folder beside it: {}",
        missing.join(", ")
    );
    let name = config.get("name").and_then(toml::Value::as_str).filter(|name| !name.is_empty());
    name.map(str::to_owned).context("agent.toml has no `name = \"...\"` at its top")
}

/// Where the files of a configuration are on a gateway.
const CONFIG_DIR: &str = "/etc/holm/";

fn missing_files(value: &toml::Value, files: &[(String, Vec<u8>)], missing: &mut Vec<String>) {
    match value {
        toml::Value::String(text) => {
            let named = text.strip_prefix(CONFIG_DIR).map(|name| format!("config/{name}"));
            let is_missing = |name: &String| files.iter().all(|(file, _)| file != name);
            if named.as_ref().is_some_and(is_missing) {
                missing.push(text.clone());
            }
        }
        toml::Value::Array(items) => {
            items.iter().for_each(|item| missing_files(item, files, missing));
        }
        toml::Value::Table(fields) => {
            fields.values().for_each(|field| missing_files(field, files, missing));
        }
        _ => {}
    }
}

fn read_ssh_key(file: &Path) -> Result<Vec<u8>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("--ssh-key {}", file.display()))?;
    if text.contains("PRIVATE KEY") {
        bail!("{} is a private key; an image takes the public one (`.pub`)", file.display());
    }
    let is_key = |line: &str| line.starts_with("ssh-") || line.starts_with("ecdsa-");
    ensure!(text.lines().any(is_key), "{} has no public SSH key", file.display());
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Seed, Sources, gateway_name, is_plain};

    fn token(gateway: &str) -> String {
        let ca = "0".repeat(64).parse().expect("a digest");
        let endpoint = "cloud.example.org:8883".to_owned();
        super::Token { endpoint, gateway: gateway.to_owned(), secret: [7; 32], ca }.to_string()
    }

    #[test]
    fn a_token_names_the_gateway() {
        let token = token("barn-3");
        let seed =
            Seed::read(&Sources { token: Some(&token), ..Sources::default() }).expect("good");
        assert_eq!(seed.gateway, "barn-3");
        let names: Vec<_> = seed.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["config/agent.toml", "enroll-token"]);
    }

    #[test]
    fn a_token_for_another_gateway_is_refused() {
        let dir = std::env::temp_dir().join(format!("holm-seed-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        std::fs::write(dir.join("agent.toml"), "name = \"barn-4\"\n").expect("a file");
        let token = token("barn-3");
        let sources = Sources { token: Some(&token), config: Some(&dir), ..Sources::default() };
        let error = Seed::read(&sources).expect_err("two names");
        assert!(error.to_string().contains("barn-4"), "{error}");
        std::fs::remove_dir_all(&dir).expect("it was made");
    }

    #[test]
    fn what_is_no_token_and_no_folder_is_refused() {
        assert!(Seed::read(&Sources { token: Some("holm1-x"), ..Sources::default() }).is_err());
        let config = Some(Path::new("/nonexistent"));
        assert!(Seed::read(&Sources { config, ..Sources::default() }).is_err());
    }

    #[test]
    fn the_last_word_on_the_watchdog_counts() {
        let is_off = |settings: &[&str]| {
            let settings = settings.iter().map(|line| (*line).to_owned()).collect();
            let seed = Seed::read(&Sources { settings, ..Sources::default() }).expect("good");
            seed.is_watchdog_off()
        };
        assert!(is_off(&["STATUS_EVERY_S=5", "WATCHDOG=off"]));
        assert!(!is_off(&["WATCHDOG=off", "WATCHDOG=on"]) && !is_off(&[]));
    }

    #[test]
    fn what_agent_toml_names_has_to_be_there() {
        let text = "name = \"a\"\n[[listeners]]\nbind = \"[::]:8883\"\ncertificate = \"/etc/holm/a.pem\"\n\
                    key = \"/etc/holm/a.key\"\n[log]\nfile = \"/var/log/x\"\n";
        let mut files = vec![("config/agent.toml".to_owned(), text.as_bytes().to_vec())];
        files.push(("config/a.key".to_owned(), Vec::new()));
        let error = gateway_name(&files).expect_err("no certificate").to_string();
        assert!(error.ends_with(": /etc/holm/a.pem"), "{error}");
        files.push(("config/a.pem".to_owned(), Vec::new()));
        assert_eq!(gateway_name(&files).expect("all there"), "a");
    }

    #[test]
    fn the_name_stands_before_the_first_table() {
        let file = |text: &str| vec![("config/agent.toml".to_owned(), text.as_bytes().to_vec())];
        assert_eq!(gateway_name(&file("# x\nname = \"a\"\n")).expect("named"), "a");
        assert!(gateway_name(&file("[[devices]]\nname = \"a\"\n")).is_err());
        assert!(gateway_name(&file("name = \"a")).is_err());
        assert!(is_plain("server.pem") && !is_plain("../x") && !is_plain(".ssh"));
    }
}
