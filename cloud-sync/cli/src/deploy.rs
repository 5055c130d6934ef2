//! `holm deploy`, `holm rollback`, `holm undeploy`: what should run where, and whether it does.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use sync_protocol::limits::BUNDLE_BYTES_MAX;
use sync_protocol::manifest::{ImageKind, Update};
use sync_protocol::{Bundle, Digest, Manifest};

use crate::app::{GatewayFiles, Project};
use crate::args::{App, Deploy, Global};
use crate::build::{self, Built};
use crate::failure::{Done, Exit, Failure, read_file};
use crate::fleet;
use crate::http::{Api, Method, escaped};
use crate::keys::{DEFAULT, KeyStore};
use crate::out::{Out, Paint, clean};

const POLL: Duration = Duration::from_millis(300);

/// `holm deploy`
///
/// # Errors
/// The app does not build, nobody signs it, the control plane refuses it, or with `--wait` a
/// gateway did not come to run it.
pub fn run(args: &Deploy, global: &Global, out: &Out) -> Done {
    let api = fleet::api(global)?;
    let gateways = fleet::targets(&api, &args.targets)?;
    let bundle = bundle(args, global, out)?;
    let wait_s = args.targets.wait.then_some(args.targets.timeout);
    roll_out(&api, &bundle, gateways.as_deref(), wait_s, out)
}

/// Uploads a bundle and assigns it to gateways (`None`: all); with `wait_s` it waits so long for
/// all of them.
///
/// # Errors
/// The control plane refuses it, or a gateway did not come to run it.
pub fn roll_out(
    api: &Api,
    bundle: &[u8],
    gateways: Option<&[String]>,
    wait_s: Option<u64>,
    out: &Out,
) -> Done {
    out.progress("Uploading", &crate::out::size(bundle.len() as u64));
    let revision: Value =
        api.send(Method::Post, "/v1/revisions", "application/octet-stream", bundle)?;
    let body = json!({ "revision": revision["digest"], "gateways": gateways });
    let deployment: Value = api.call(Method::Post, "/v1/deployments", Some(&body))?;
    let what = format!(
        "{} {} ({})",
        text(&revision["app"]),
        text(&revision["version"]),
        build::short(text(&revision["digest"]))
    );
    finish(api, wait_s, &deployment, &what, Goal::Live, out)
}

/// The bundle to upload, signed.
fn bundle(args: &Deploy, global: &Global, out: &Out) -> Done<Vec<u8>> {
    let keys = KeyStore::open(global)?;
    if args.source.is_file() && args.source.extension().is_none_or(|kind| kind != "toml") {
        let file = read_file(&args.source, BUNDLE_BYTES_MAX)?;
        return signed(file, args, &keys);
    }
    let project = Project::open(&args.source)?;
    let (_, key) = keys.chosen(args.key.as_deref())?.ok_or_else(nobody_signs)?;
    Ok(Built::new(&project, Some(&key), out)?.bundle(Some(&key))?.1)
}

/// A bundle file as it is, or signed anew where it was not or another key was named.
fn signed(file: Vec<u8>, args: &Deploy, keys: &KeyStore) -> Done<Vec<u8>> {
    let wrong = |error: &dyn std::fmt::Display| bad_bundle(&args.source, error);
    let bundle = Bundle::parse(&file).map_err(|error| wrong(&error))?;
    if args.key.is_none() && !build::is_unsigned(&bundle.signed) {
        return Ok(file);
    }
    let (_, key) = keys.chosen(args.key.as_deref())?.ok_or_else(nobody_signs)?;
    let manifest = Manifest::from_bytes(&bundle.signed.manifest).map_err(|error| wrong(&error))?;
    if manifest.firmware.values().any(|image| image.kind == ImageKind::Function) {
        let problem =
            "its functions for devices are signed on their own, by the key it was built with";
        return Err(wrong(&problem).next("deploy the app's folder, or build it with this key"));
    }
    let bytes =
        |artifact: &Digest| bundle.artifacts.get(artifact).copied().unwrap_or_default().to_vec();
    let functions = manifest.functions.iter();
    let components = functions.map(|(name, f)| (name.clone(), bytes(&f.artifact))).collect();
    let firmware = manifest.firmware.iter();
    let images = firmware.map(|(name, image)| (name.clone(), bytes(&image.artifact))).collect();
    let files = |update: &Option<Update>| {
        let files = update.iter().flat_map(|update| &update.programs);
        files.map(|(of, file)| (of.clone(), bytes(&file.artifact))).collect()
    };
    let gateway =
        GatewayFiles { programs: files(&manifest.agent), systems: files(&manifest.system) };
    Ok(Built { manifest, components, images, gateway }.bundle(Some(&key))?.1)
}

fn bad_bundle(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::input(format!("{}: {error}", path.display()))
}

fn nobody_signs() -> Failure {
    Failure::new(Exit::NotFound, format!("there is no key `{DEFAULT}` to sign with"))
        .next("`holm keys new`, and the control plane must know it: `holm cloud init` sees to that")
}

/// `holm rollback`
///
/// # Errors
/// There is nothing to go back to; else as [`run`].
pub fn rollback(args: &App, global: &Global, out: &Out) -> Done {
    change(args, global, "rollback", Goal::Live, out)
}

/// `holm undeploy`
///
/// # Errors
/// The app is not deployed; else as [`run`].
pub fn undeploy(args: &App, global: &Global, out: &Out) -> Done {
    change(args, global, "undeploy", Goal::Removed, out)
}

fn change(args: &App, global: &Global, verb: &str, goal: Goal, out: &Out) -> Done {
    let api = fleet::api(global)?;
    let gateways = fleet::targets(&api, &args.targets)?;
    let path = format!("/v1/apps/{}/{verb}", escaped(&args.app));
    let body = json!({ "gateways": gateways });
    let deployment: Value = api.call(Method::Post, &path, Some(&body))?;
    let what = match deployment["revision"].as_str() {
        Some(revision) => format!("{} ({})", args.app, build::short(revision)),
        None => args.app.clone(),
    };
    finish(&api, args.targets.wait.then_some(args.targets.timeout), &deployment, &what, goal, out)
}

/// What a gateway must report for the deployment to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Live,
    Removed,
}

#[derive(Clone, Debug, Deserialize)]
struct Step {
    gateway: String,
    online: bool,
    progress: String,
    #[serde(default)]
    reason: String,
}

impl Step {
    fn is_done(&self, goal: Goal) -> bool {
        match goal {
            Goal::Live => self.progress == "live",
            Goal::Removed => self.progress == "removed",
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self.progress.as_str(), "failed" | "taken-back" | "superseded")
    }
}

fn finish(
    api: &Api,
    wait_s: Option<u64>,
    deployment: &Value,
    what: &str,
    goal: Goal,
    out: &Out,
) -> Done {
    let id = deployment["id"].as_u64().unwrap_or_default();
    let to = match deployment["gateways"].as_array() {
        Some(names) => names.iter().map(text).collect::<Vec<_>>().join(", "),
        None => "all gateways".to_owned(),
    };
    let verb = match goal {
        Goal::Live => "is to run on",
        Goal::Removed => "is to be removed from",
    };
    let Some(wait_s) = wait_s else {
        return out.answer(deployment, |text, _| {
            text.push_str(&format!("{what} {verb} {to}\nfollow it with `holm status`\n"));
        });
    };
    out.progress("Waiting", &format!("{what} {verb} {to}"));
    let steps = wait(api, id, wait_s, goal, out)?;
    judge(deployment, &steps, what, goal, out)
}

/// Polls until every gateway is done or lost, or time is up.
fn wait(api: &Api, id: u64, timeout_s: u64, goal: Goal, out: &Out) -> Done<Vec<Step>> {
    let end = Instant::now() + Duration::from_secs(timeout_s);
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let steps = steps(api, id)?;
        for step in &steps {
            let now = match step.progress.as_str() {
                "pending" if !step.online => "is offline",
                "probation" => "on probation: it works, and is watched for up to a minute",
                progress => progress,
            };
            if shown.get(&step.gateway).map(String::as_str) != Some(now) {
                out.progress(&step.gateway, now);
                shown.insert(step.gateway.clone(), now.to_owned());
            }
        }
        let open = steps.iter().any(|step| !step.is_done(goal) && !step.is_lost());
        if !open || Instant::now() >= end {
            return Ok(steps);
        }
        std::thread::sleep(POLL);
    }
}

fn steps(api: &Api, id: u64) -> Done<Vec<Step>> {
    let mut deployment: Value = api.get(&format!("/v1/deployments/{id}"))?;
    serde_json::from_value(deployment["progress"].take())
        .map_err(|error| Failure::failed(format!("the control plane's answer: {error}")))
}

fn judge(deployment: &Value, steps: &[Step], what: &str, goal: Goal, out: &Out) -> Done {
    let done = steps.iter().filter(|step| step.is_done(goal)).count();
    let problems: Vec<String> = steps
        .iter()
        .filter(|step| !step.is_done(goal))
        .map(|step| {
            let reason =
                if step.reason.is_empty() { String::new() } else { format!(": {}", step.reason) };
            let offline = if step.online { "" } else { " (offline)" };
            format!("{}: {}{offline}{reason}", step.gateway, step.progress)
        })
        .collect();
    if problems.is_empty() {
        let mut value = deployment.clone();
        value["done"] = json!(true);
        return out.answer(&value, |text, out| {
            let word = if goal == Goal::Live { "live" } else { "removed" };
            let word = out.paint(word, Paint::Green);
            let on = if done == 1 { "1 gateway".to_owned() } else { format!("{done} gateways") };
            text.push_str(&format!("{} is {word} on {on}\n", clean(what)));
        });
    }
    let lost = steps.iter().any(Step::is_lost);
    let (exit, next) = if lost {
        (Exit::Failed, "the gateway runs the revision before; `holm logs -f GATEWAY` shows more")
    } else {
        (Exit::Timeout, "the deployment goes on: `holm status` shows it")
    };
    Err(Failure { exit, problems, next: Some(next.to_owned()) })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
