//! `holm build --target device`: images for microcontrollers, made of the components that a bundle
//! has.

use std::path::{Path, PathBuf};

use edge_agent::runtime::{DEVICE_TARGET, InnerModule, WASMTIME_VERSION};
use serde_json::json;
use sync_protocol::device_image::{self, DEVICE_LIMITS_MAX, Header};
use sync_protocol::{Digest, SigningKey};

use super::{Built, TARGET, short, write};
use crate::app::{Project, inside};
use crate::args::Build;
use crate::failure::{Done, Exit, Failure};
use crate::out::{Out, size, table};

/// An image of one function.
#[derive(Debug)]
struct Image {
    function: String,
    header: Header,
    bytes: Vec<u8>,
    path: PathBuf,
}

/// Writes and reports the images of the functions asked for.
///
/// # Errors
/// There is no such function or no key, a function is not for devices, or a file cannot be written.
pub(super) fn run(
    built: &Built,
    project: &Project,
    key: Option<&(String, SigningKey)>,
    args: &Build,
    out: &Out,
) -> Done {
    let (key_name, key) = key.ok_or_else(nobody_signs)?;
    let wanted = |name: &String| args.function.as_ref().is_none_or(|wanted| wanted == name);
    let names: Vec<&String> = built.components.keys().filter(|name| wanted(name)).collect();
    if let (Some(name), []) = (&args.function, names.as_slice()) {
        return Err(Failure::new(Exit::NotFound, format!("the app has no function `{name}`")));
    }
    if let (Some(_), [_, _, ..]) = (&args.out, names.as_slice()) {
        let problem = "--out names one file, but the app has several functions";
        return Err(Failure::usage(problem).next("name one with --function"));
    }
    let mut images = Vec::new();
    for name in names {
        let path = args
            .out
            .clone()
            .unwrap_or_else(|| inside(&project.dir, Path::new(TARGET)).join(format!("{name}.img")));
        let (header, bytes) = image(built, name, key)?;
        write(&path, &bytes)?;
        images.push(Image { function: name.clone(), header, bytes, path });
    }
    report(&images, key_name, out)
}

/// Why there is no image.
pub(super) fn nobody_signs() -> Failure {
    Failure::usage("a device runs only what is signed, and no key was chosen")
        .next("make one with `holm keys new`; devices are given its public half")
}

/// The image of a function of a built app.
///
/// # Errors
/// It is not for devices.
pub(super) fn image(built: &Built, name: &str, key: &SigningKey) -> Done<(Header, Vec<u8>)> {
    let failed = |why: String| Failure::input(format!("function `{name}`: {why}"));
    let component = &built.components[name];
    let module = InnerModule::of(component, DEVICE_LIMITS_MAX.memory)
        .map_err(|error| failed(error.to_string()))?;
    let code = module.compile(DEVICE_TARGET).map_err(|error| failed(error.to_string()))?;
    let (digest, initial) = (Digest::of(module.bytes), module.memory_initial_bytes);
    let header = Header::new(&built.manifest, name, WASMTIME_VERSION, digest, initial)
        .map_err(|error| failed(error.to_string()))?;
    let bytes =
        device_image::write(&header, &code, key).map_err(|error| failed(error.to_string()))?;
    Ok((header, bytes))
}

fn report(images: &[Image], key_name: &str, out: &Out) -> Done {
    let rows = images.iter().map(|image| {
        json!({
            "function": image.function,
            "component": image.header.component.to_string(),
            "module": image.header.module.to_string(),
            "image": Digest::of(&image.bytes).to_string(),
            "image_bytes": image.bytes.len(),
            "memory_bytes": image.header.limits.memory,
            "file": image.path,
        })
    });
    let value = json!({ "signed_by": key_name, "images": rows.collect::<Vec<_>>() });
    out.answer(&value, |text, out| {
        let titles = ["FUNCTION", "COMPONENT", "MODULE", "IMAGE", "SIZE", "MEMORY", "FILE"];
        let mut rows = vec![titles.map(str::to_owned).to_vec()];
        rows.extend(images.iter().map(|image| {
            vec![
                image.function.clone(),
                short(&image.header.component.to_string()),
                short(&image.header.module.to_string()),
                short(&Digest::of(&image.bytes).to_string()),
                size(image.bytes.len() as u64),
                size(image.header.limits.memory.into()),
                image.path.display().to_string(),
            ]
        }));
        text.push_str(&table(out, &rows));
        text.push_str(&format!("\nsigned with `{key_name}`, for wasmtime {WASMTIME_VERSION}\n"));
    })
}
