//! A container image in the OCI layout, written without a daemon: one file that
//! `podman load`, `skopeo copy oci-archive:FILE ...` and `docker load` (25 or later) read.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sync_protocol::Digest;

use super::release::{Content, Release};
use super::stage::{self, Stage};

/// User and group that the agent runs as; numbers, so that a host can demand `runAsNonRoot`.
const USER: &str = "65532";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes the image for all `programs`, by OCI's name of their architecture.
pub(crate) fn build(release: &Release, programs: &[(&str, &Content)]) -> Result<()> {
    let layout = Stage::new(&release.work("oci"), release.epoch)?;
    layout.put("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut manifests = Vec::new();
    for (arch, content) in programs {
        let mut manifest = image(release, &layout, arch, content)?;
        manifest["platform"] = json!({ "architecture": arch, "os": "linux" });
        manifests.push(manifest);
    }
    // One name for all: whoever loads it takes the manifest of their own machine.
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let mut named = blob(&layout, INDEX, &serde_json::to_vec(&index)?)?;
    named["annotations"] = json!({ "org.opencontainers.image.ref.name": release.version });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [named] });
    layout.put("index.json", 0o644, &serde_json::to_vec(&index)?)?;
    layout.tar(&release.out.join(format!("edge-agent-{}.oci.tar", release.version)), "0")
}

/// Writes configuration, layers and manifest of one architecture; returns the manifest's descriptor.
fn image(release: &Release, layout: &Stage, arch: &str, content: &Content) -> Result<Value> {
    let program = Stage::new(&release.work(&format!("oci-{arch}")), release.epoch)?;
    program.put("usr/bin/edge-agent", 0o755, &content.agent)?;
    program.put("etc/holm/agent.toml", 0o644, &release.file("agent.toml")?)?;
    let user = format!("holm:x:{USER}:{USER}::/var/lib/holm:/sbin/nologin\n");
    program.put("etc/passwd", 0o644, user.as_bytes())?;
    program.put("etc/group", 0o644, format!("holm:x:{USER}:\n").as_bytes())?;
    let data = Stage::new(&release.work(&format!("oci-{arch}-data")), release.epoch)?;
    data.dirs(Path::new("var/lib/holm"))?;
    let layers = [layer(release, layout, &program, "0")?, layer(release, layout, &data, USER)?];
    let config = json!({
        "architecture": arch,
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": ["/usr/bin/edge-agent"],
            "Cmd": ["run"],
            "Volumes": { "/var/lib/holm": {} },
            "WorkingDir": "/var/lib/holm",
            "Labels": {
                "org.opencontainers.image.title": "edge-agent",
                "org.opencontainers.image.version": release.version,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| &layer.0).collect::<Vec<_>>() },
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(layout, CONFIG, &serde_json::to_vec(&config)?)?,
        "layers": layers.iter().map(|layer| &layer.1).collect::<Vec<_>>(),
    });
    blob(layout, MANIFEST, &serde_json::to_vec(&manifest)?)
}

/// A layer: the digest of its tar, and the descriptor of its blob.
fn layer(release: &Release, layout: &Stage, tree: &Stage, owner: &str) -> Result<(String, Value)> {
    let tar = release.work("layer.tar");
    tree.tar(&tar, owner)?;
    let (digest, _) = stage::digest(&tar)?;
    stage::gzip(&tar)?;
    let packed = release.work("layer.tar.gz");
    let packed = std::fs::read(&packed).with_context(|| packed.display().to_string())?;
    Ok((format!("sha256:{digest}"), blob(layout, LAYER, &packed)?))
}

/// Puts bytes into the layout; returns their descriptor.
fn blob(layout: &Stage, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = Digest::of(bytes).to_string();
    layout.put(&format!("blobs/sha256/{digest}"), 0o644, bytes)?;
    Ok(json!({
        "mediaType": media_type,
        "digest": format!("sha256:{digest}"),
        "size": bytes.len(),
    }))
}
