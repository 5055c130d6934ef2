//! `holm build`: from the folder of an app to a bundle, the file that is deployed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use device_protocol::limits::IMAGE_MAX;
use edge_agent::runtime::{BuildError, BuildOptions, build_function, check_exports, componentize};
use serde_json::{Value, json};
use sync_protocol::system_file::Header;
use sync_protocol::{Bundle, Digest, KeyId, Manifest, SignedManifest, SigningKey};

use crate::app::{Firmware, Function, GatewayFiles, Project, Source, inside};
use crate::args::{Build, BuildTarget, Global};
use crate::failure::{Done, Failure, read_file};
use crate::keys::KeyStore;
use crate::out::{Out, size, table};

mod device;

/// Where built things go, in the app's folder.
const TARGET: &str = "target/holm";
/// What stands for the key in a bundle that nobody signed.
const UNSIGNED: KeyId = KeyId([0; 16]);
/// A core module with its names may be larger than the component made of it.
const WASM_BYTES_MAX: u64 = 2 * sync_protocol::limits::ARTIFACT_BYTES_MAX;

/// A built app.
#[derive(Debug)]
pub struct Built {
    /// What it is.
    pub manifest: Manifest,
    /// Components by function.
    pub components: BTreeMap<String, Vec<u8>>,
    /// Images for devices by name.
    pub images: BTreeMap<String, Vec<u8>>,
    /// What the gateways themselves are updated to.
    pub gateway: GatewayFiles,
}

impl Built {
    /// Builds all functions of an app. Those that devices run are signed with `key` on their own: without one they
    /// are not built.
    ///
    /// # Errors
    /// A function does not build, or the app as a whole is over a limit, or devices are to run functions and there is no
    /// key.
    pub fn new(project: &Project, key: Option<&SigningKey>, out: &Out) -> Done<Self> {
        let mut components = BTreeMap::new();
        for (name, function) in &project.app.functions {
            let bytes = component(project, name, function, out)?;
            let (id, needs) = (project.app.function_id(name), project.app.needs(name));
            check_exports(&bytes, &id, needs).map_err(|error| Failure::input(error.to_string()))?;
            components.insert(name.clone(), bytes);
        }
        let images = images(project)?;
        let gateway = gateway_files(project)?;
        let manifest = project.app.manifest(&components, &images, &gateway)?;
        let mut built = Self { manifest, components, images, gateway };
        if !project.app.device_functions.is_empty() {
            let key = key.ok_or_else(device::nobody_signs)?;
            for (name, one) in &project.app.device_functions {
                let (_, bytes) = device::image(&built, &one.function, key)?;
                built.images.insert(name.clone(), bytes);
            }
            built.manifest = project.app.add_device_functions(built.manifest, &built.images)?;
        }
        Ok(built)
    }

    /// The revision and its bundle file, signed if there is a key.
    ///
    /// # Errors
    /// The bundle would be over a limit.
    pub fn bundle(&self, key: Option<&SigningKey>) -> Done<(Digest, Vec<u8>)> {
        let signed = match key {
            Some(key) => SignedManifest::sign(&self.manifest, key)
                .map_err(|error| Failure::input(error.to_string()))?,
            None => SignedManifest {
                manifest: self.manifest.to_bytes(),
                key: UNSIGNED,
                signature: Vec::new(),
            },
        };
        let parts = self.components.values().chain(self.images.values());
        let parts =
            parts.chain(self.gateway.programs.values()).chain(self.gateway.systems.values());
        let artifacts = parts.map(|bytes| (Digest::of(bytes), bytes.clone())).collect();
        let file = Bundle::write(&signed, &artifacts)
            .map_err(|error| Failure::input(error.to_string()))?;
        Ok((signed.digest(), file))
    }
}

/// Reads the images for devices.
fn images(project: &Project) -> Done<BTreeMap<String, Vec<u8>>> {
    let read = |(name, firmware): (&String, &Firmware)| {
        let path = inside(&project.dir, &firmware.image);
        let bytes = read_file(&path, IMAGE_MAX.into())?;
        if bytes.is_empty() {
            return Err(Failure::input(format!("firmware `{name}`: {} is empty", path.display())));
        }
        Ok((name.clone(), bytes))
    };
    project.app.firmware.iter().map(read).collect()
}

/// Reads agent programs and systems. A system says itself what it is.
fn gateway_files(project: &Project) -> Done<GatewayFiles> {
    let mut files = GatewayFiles::default();
    for (target, file) in project.app.agent.iter().flat_map(|agent| &agent.files) {
        let path = inside(&project.dir, file);
        let bytes = read_file(&path, sync_protocol::limits::ARTIFACT_BYTES_MAX);
        let bytes = bytes.map_err(|failure| failure.next("an agent program may need `strip`"))?;
        if bytes.is_empty() {
            return Err(Failure::input(format!("agent for {target}: {} is empty", path.display())));
        }
        files.programs.insert(target.clone(), bytes);
    }
    if let Some(update) = &project.app.system {
        for (board, file) in &update.files {
            let path = inside(&project.dir, file);
            let bytes = read_file(&path, sync_protocol::limits::SYSTEM_BYTES_MAX)?;
            let wrong = |why: String| {
                Failure::input(format!("system for {board}: {}: {why}", path.display()))
            };
            let header = Header::parse(&bytes, bytes.len() as u64);
            let (header, _) = header.map_err(|error| wrong(error.to_string()))?;
            if header.board != *board {
                return Err(wrong(format!("it is for the board {}", header.board)));
            }
            if header.version != update.version.to_string() {
                return Err(wrong(format!(
                    "it calls itself {}, [system] says {}",
                    header.version, update.version
                )));
            }
            files.systems.insert(board.clone(), bytes);
        }
    }
    Ok(files)
}

/// Whether nobody has signed it yet.
#[must_use]
pub fn is_unsigned(signed: &SignedManifest) -> bool {
    signed.key == UNSIGNED
}

/// The component of one function, built now; it is also kept for `holm invoke --no-build`.
///
/// # Errors
/// It does not build, or its file is no function.
pub fn component(project: &Project, name: &str, function: &Function, out: &Out) -> Done<Vec<u8>> {
    let bytes = match &function.source {
        Source::Package { path, example } => {
            let dir = inside(&project.dir, path);
            let place = if dir.as_os_str().is_empty() { Path::new(".") } else { &dir };
            out.progress("Building", &format!("{name} ({})", place.display()));
            if !dir.join("Cargo.toml").exists() {
                let problem = format!("function `{name}`: no Cargo.toml in {}", dir.display());
                let next =
                    format!("set `path` in [functions.{name}] of {}", project.file.display());
                return Err(Failure::input(problem).next(next));
            }
            let options = BuildOptions {
                stack_bytes: function.limits.stack_bytes,
                example: example.clone(),
                quiet: out.is_quiet(),
                ..BuildOptions::default()
            };
            build_function(place, &options).map_err(|error| failed(name, &error))?
        }
        Source::Wasm(path) => {
            let path = inside(&project.dir, path);
            let bytes = read_file(&path, WASM_BYTES_MAX)?;
            as_component(bytes).map_err(|why| {
                Failure::input(format!("function `{name}`: {}: {why}", path.display()))
            })?
        }
    };
    let kept = kept_path(project, name);
    write(&kept, &bytes)?;
    Ok(bytes)
}

/// The component as it was built the last time.
///
/// # Errors
/// It was not.
pub fn kept_component(project: &Project, name: &str) -> Done<Vec<u8>> {
    read_file(&kept_path(project, name), WASM_BYTES_MAX)
        .map_err(|failure| failure.next("leave out --no-build"))
}

fn kept_path(project: &Project, name: &str) -> PathBuf {
    inside(&project.dir, Path::new(TARGET)).join(format!("{name}.wasm"))
}

/// A component as it is; a core module is wrapped into one.
fn as_component(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    // Magic, version and layer (component model, binary format): layer 1 is a component.
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(bytes),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            componentize(&bytes).map_err(|error| error.to_string())
        }
        _ => Err("not WebAssembly".to_owned()),
    }
}

fn failed(name: &str, error: &BuildError) -> Failure {
    let failure = Failure::failed(format!("function `{name}`: {error}"));
    match error {
        BuildError::Target => failure.next("rustup target add wasm32-unknown-unknown"),
        BuildError::Start { .. } => failure.next("install Rust: https://rustup.rs"),
        BuildError::Cargo { said, .. } if said.is_empty() => {
            failure.next("mend what cargo says above")
        }
        BuildError::Cargo { said, .. } => {
            let mut failure = failure;
            failure.problems.push(said.trim().to_owned());
            failure.next("mend what cargo says")
        }
        _ => failure,
    }
}

fn write(path: &Path, bytes: &[u8]) -> Done {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| Failure::file("make", dir, &error))?;
    }
    std::fs::write(path, bytes).map_err(|error| Failure::file("write", path, &error))
}

/// `holm build`
///
/// # Errors
/// The file has mistakes, a function does not build, there is no such key, or the bundle cannot be
/// written.
pub fn run(args: &Build, global: &Global, out: &Out) -> Done {
    let project = Project::open(&args.dir)?;
    if args.check {
        images(&project)?;
        gateway_files(&project)?;
        let value = json!({ "app": project.app.name, "version": project.app.version.to_string() });
        return out.answer(&value, |text, _| {
            text.push_str(&format!("{} is good\n", project.file.display()));
        });
    }
    if args.function.is_some() && args.target != BuildTarget::Device {
        let problem =
            "--function is for `--target device`: a bundle holds all functions of the app";
        return Err(Failure::usage(problem));
    }
    let key = match args.unsigned {
        true => None,
        false => KeyStore::open(global)?.chosen(args.key.as_deref())?,
    };
    let built = Built::new(&project, key.as_ref().map(|(_, key)| key), out)?;
    if args.target == BuildTarget::Device {
        return device::run(&built, &project, key.as_ref(), args, out);
    }
    let (revision, bundle) = built.bundle(key.as_ref().map(|(_, key)| key))?;
    let path = args.out.clone().unwrap_or_else(|| {
        let (name, version) = (&project.app.name, project.app.version);
        inside(&project.dir, Path::new(TARGET)).join(format!("{name}-{version}.holm"))
    });
    write(&path, &bundle)?;
    let bundle = Written { revision: revision.to_string(), path, bytes: bundle.len() as u64 };
    report(&built, key.as_ref(), &bundle, out)
}

/// A bundle file that was written.
struct Written {
    revision: String,
    path: PathBuf,
    bytes: u64,
}

fn report(built: &Built, key: Option<&(String, SigningKey)>, bundle: &Written, out: &Out) -> Done {
    let Manifest { app, version, .. } = &built.manifest;
    let Written { revision, path, bytes: bundle_bytes } = bundle;
    let functions: Vec<Value> = built
        .manifest
        .functions
        .iter()
        .map(|(name, function)| {
            json!({ "name": name, "bytes": function.size, "digest": function.artifact.to_string() })
        })
        .collect();
    let firmware: Vec<Value> = built
        .manifest
        .firmware
        .iter()
        .map(|(name, image)| {
            json!({
                "name": name, "bytes": image.size, "digest": image.artifact.to_string(),
                "kind": image.kind.as_str(), "board": image.board, "version": image.version,
            })
        })
        .collect();
    let value = json!({
        "app": app, "version": version, "revision": revision, "bundle": path,
        "bundle_bytes": bundle_bytes, "signed_by": key.map(|(name, _)| name),
        "functions": functions, "firmware": firmware, "agent": built.manifest.agent,
        "system": built.manifest.system,
    });
    out.answer(&value, |text, out| {
        let mut rows = vec![["FUNCTION", "SIZE", "DIGEST"].map(str::to_owned).to_vec()];
        rows.extend(built.manifest.functions.iter().map(|(name, function)| {
            vec![name.clone(), size(function.size), short(&function.artifact.to_string())]
        }));
        if rows.len() > 1 {
            text.push_str(&table(out, &rows));
        }
        for (name, image) in &built.manifest.firmware {
            text.push_str(&format!(
                "{} {name} {} for {}, {}, {}\n",
                image.kind.as_str(),
                image.version,
                image.board,
                size(image.size),
                short(&image.artifact.to_string())
            ));
        }
        let Manifest { agent, system, .. } = &built.manifest;
        for (what, update) in [("agent", agent), ("system", system)] {
            for (of, file) in update.iter().flat_map(|update| &update.programs) {
                let version = update.as_ref().map_or("", |update| update.version.as_str());
                let (bytes, digest) = (size(file.size), file.artifact.to_string());
                text.push_str(&format!("{what} {version} for {of}, {bytes}, {}\n", short(&digest)));
            }
        }
        text.push_str(&format!("\n{app} {version}, revision {}\n", short(revision)));
        let signed = match key {
            Some((name, _)) => format!("signed with `{name}`"),
            None => "not signed: gateways refuse it; `holm keys new` makes a key".to_owned(),
        };
        text.push_str(&format!("{} ({}), {signed}\n", path.display(), size(*bundle_bytes)));
    })
}

/// The beginning of a digest, for people.
#[must_use]
pub fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
