//! An app as its author writes it: `holm.toml`.
//!
//! Two types, two meanings: this module's [`App`] is what stands in the file, checked and with its
//! defaults; the signed manifest that gateways read is made from it after the functions are
//! built.
//!
//! # Invariants
//! - Every key that is read has an entry in [`reference`], and the page `docs/holm-toml.md` is
//!   made from that list; tests hold the three together.
//! - All problems of a file are reported at once, each with its line.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use edge_agent::runtime::Needs;
use edge_core::id::FunctionId;
use sync_protocol::manifest::{
    self, Grants, Limits, Manifest, Ordered, Pause, Series, StateScope, Trigger, WhenFull,
};

use crate::failure::{Done, Exit, Failure, read_file};

mod batch;
mod destinations;
mod device_function;
mod firmware;
mod order;
mod patterns;
mod read;
pub mod reference;
mod series;
mod update;
mod values;
mod version;

pub use read::Problem;
pub use version::Version;

/// Name of the file.
pub const FILE_NAME: &str = "holm.toml";
/// No honest app needs a longer one.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The content of a `holm.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Name, unique on a gateway.
    pub name: String,
    /// Version of this revision, for people; the order of revisions follows from it.
    pub version: Version,
    /// Oldest version that gateways may still be given once they have taken this one.
    pub floor: Option<Version>,
    /// Functions by name.
    pub functions: BTreeMap<String, Function>,
    /// What wakes them, by name.
    pub triggers: BTreeMap<String, Trigger>,
    /// Policies of record series, by name.
    pub records: BTreeMap<String, Series>,
    /// Images for devices, by name.
    pub firmware: BTreeMap<String, Firmware>,
    /// Functions that devices run, by name.
    pub device_functions: BTreeMap<String, DeviceFunction>,
    /// Programs of the gateways themselves.
    pub agent: Option<Update>,
    /// Their whole system.
    pub system: Option<Update>,
}

/// Where a function's code comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Rust package.
    Package {
        /// Its folder, relative to the file.
        path: PathBuf,
        /// The example that is the function, instead of the package's library.
        example: Option<String>,
    },
    /// A WebAssembly file, relative to the file: a component, or a core module made with the SDK.
    Wasm(PathBuf),
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its code.
    pub source: Source,
    /// Limits of one attempt and of its state.
    pub limits: Limits,
    /// State domain and order.
    pub state: StateScope,
    /// Version of the state's shape.
    pub state_version: u32,
    /// Policy when its share of the queue is full.
    pub when_full: WhenFull,
    /// What it may do.
    pub grants: Grants,
    /// What its `config` calls return.
    pub config: BTreeMap<String, String>,
    /// By what its events are ordered, where that is not as `state` says.
    pub ordered: Option<String>,
    /// When it is paused because it faults.
    pub pause: Pause,
}

impl Function {
    /// Its lanes; `None`: each event is alone in its lane.
    #[must_use]
    pub fn lanes(&self) -> Option<Ordered> {
        self.state.lanes(self.ordered.as_deref())
    }
}

/// An image and the devices that should run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// The file, relative to the `holm.toml`.
    pub image: PathBuf,
    /// Board that it is built for.
    pub board: String,
    /// Its version.
    pub version: u32,
    /// Versions below it are declined by devices that run it.
    pub floor: u32,
    /// Patterns of device names.
    pub devices: Vec<String>,
}

/// A version of the gateways' own program, or of their system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// What its files call themselves.
    pub version: Version,
    /// Lower versions are refused by gateways that confirmed it.
    pub floor: Option<Version>,
    /// It is tried where it was taken back before.
    pub force: bool,
    /// Files by target triple or board, relative to the `holm.toml`.
    pub files: BTreeMap<String, PathBuf>,
}

/// Bytes of what the gateways themselves are updated to.
#[derive(Clone, Debug, Default)]
pub struct GatewayFiles {
    /// Agent programs by target.
    pub programs: BTreeMap<String, Vec<u8>>,
    /// Systems by board.
    pub systems: BTreeMap<String, Vec<u8>>,
}

/// A function and the devices that should run it themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFunction {
    /// Name of the function.
    pub function: String,
    /// Patterns of device names.
    pub devices: Vec<String>,
}

/// An app and where it was read from.
#[derive(Clone, Debug)]
pub struct Project {
    /// Folder of the file.
    pub dir: PathBuf,
    /// The file.
    pub file: PathBuf,
    /// Its content.
    pub app: App,
}

impl Project {
    /// Reads `holm.toml` in `dir`, or the file itself where `dir` names one.
    ///
    /// # Errors
    /// No such file, or all problems in it.
    pub fn open(dir: &Path) -> Done<Self> {
        let file = if dir.is_dir() { inside(dir, Path::new(FILE_NAME)) } else { dir.to_owned() };
        if !file.exists() {
            let problem = format!("there is no {} in {}", FILE_NAME, dir.display());
            let next = "go to an app's folder, name one, or make one with `holm new NAME`";
            return Err(Failure::new(Exit::NotFound, problem).next(next));
        }
        let bytes = read_file(&file, FILE_BYTES_MAX)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::input(format!("{} is not UTF-8 text", file.display())))?;
        let app = App::parse(&text).map_err(|problems| {
            let problems = problems
                .iter()
                .map(|problem| format!("{}:{}: {}", file.display(), problem.line, problem.message))
                .collect();
            let next = "the keys and their values are listed by `holm help holm.toml`";
            Failure { exit: Exit::Input, problems, next: Some(next.to_owned()) }
        })?;
        let dir = match file.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => PathBuf::from("."),
        };
        Ok(Self { dir, file, app })
    }
}

/// A path inside a folder, without `./` in front: what people would write.
#[must_use]
pub fn inside(dir: &Path, path: &Path) -> PathBuf {
    dir.join(path).components().filter(|part| *part != Component::CurDir).collect()
}

impl App {
    /// `app/function`.
    #[must_use]
    pub fn function_id(&self, name: &str) -> FunctionId {
        FunctionId::new(&format!("{}/{name}", self.name))
    }

    /// What the triggers call of a function.
    #[must_use]
    pub fn needs(&self, name: &str) -> Needs {
        let woken = manifest::woken(&self.triggers, name);
        Needs { handler: woken.by_event, batch_handler: woken.by_batch }
    }

    /// Parses the text of a `holm.toml`.
    ///
    /// # Errors
    /// All problems, in the order of the file.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        read::parse(text)
    }

    /// The manifest of a revision whose functions were built into these components, with these
    /// images for devices, and these agent programs and systems.
    ///
    /// # Errors
    /// A function has no component here, or an image or a file is missing, or the manifest has a problem that only shows when it is
    /// complete (a component that is too large).
    pub fn manifest(
        &self,
        components: &BTreeMap<String, Vec<u8>>,
        images: &BTreeMap<String, Vec<u8>>,
        gateway: &GatewayFiles,
    ) -> Done<Manifest> {
        let mut functions = BTreeMap::new();
        for (name, function) in &self.functions {
            let bytes = components
                .get(name)
                .ok_or_else(|| Failure::failed(format!("function `{name}` was not built")))?;
            let entry = manifest::Function {
                artifact: sync_protocol::Digest::of(bytes),
                size: bytes.len() as u64,
                limits: function.limits,
                state: function.state,
                state_version: function.state_version,
                when_full: function.when_full,
                grants: function.grants.clone(),
                config: function.config.clone(),
                ordered: function.ordered.clone(),
                pause: function.pause,
            };
            functions.insert(name.clone(), entry);
        }
        let manifest = Manifest {
            format: manifest::FORMAT,
            app: self.name.clone(),
            version: self.version.to_string(),
            sequence: self.version.sequence(),
            floor: self.floor.map_or(0, Version::sequence),
            functions,
            triggers: self.triggers.clone(),
            records: self.records.clone(),
            firmware: firmware::manifest(&self.firmware, images)?,
            agent: update::manifest(self.agent.as_ref(), &gateway.programs)?,
            system: update::manifest(self.system.as_ref(), &gateway.systems)?,
        };
        Self::checked(manifest)
    }

    /// Adds the images of its functions for devices, each made of the component of a manifest of this app.
    ///
    /// # Errors
    /// A version that devices cannot be offered, or a problem of the whole.
    pub fn add_device_functions(
        &self,
        mut manifest: Manifest,
        images: &BTreeMap<String, Vec<u8>>,
    ) -> Done<Manifest> {
        let entries = device_function::manifest(&self.device_functions, &manifest, images)?;
        manifest.firmware.extend(entries);
        Self::checked(manifest)
    }

    fn checked(manifest: Manifest) -> Done<Manifest> {
        let problems: Vec<_> = manifest.problems().iter().map(ToString::to_string).collect();
        if problems.is_empty() {
            return Ok(manifest);
        }
        Err(Failure { exit: Exit::Input, problems, next: None })
    }
}

#[cfg(test)]
mod tests;
