//! `holm cloud init` and `holm gateway`: who may be part of the fleet.

use cloud_sync::{Clock, InitOptions, InitReport};
use serde_json::{Value, json};
use sync_protocol::enroll::endpoint;

use crate::args::{Cloud, CloudCommand, CloudInit, Gateway, GatewayCommand, Global};
use crate::context::{Context, Contexts};
use crate::failure::{Done, Exit, Failure};
use crate::http::{Api, Method, escaped};
use crate::keys::KeyStore;
use crate::out::Out;

const PEM_BYTES_MAX: u64 = 64 << 10;

/// `holm cloud`
///
/// # Errors
/// There is a control plane already, or a file cannot be written.
pub fn run(args: &Cloud, global: &Global, out: &Out) -> Done {
    let CloudCommand::Init(args) = &args.command;
    let report = init(args, global)?;
    let host = args.host.first().map_or("localhost", String::as_str);
    let url = format!("https://{}", endpoint(host, args.http_port));
    let ca = crate::input::text(&report.gateway_ca, PEM_BYTES_MAX)?;
    let context = Context { url: url.clone(), token: report.operator_token.clone(), ca };
    let mut contexts = Contexts::load(global)?;
    contexts.put(&args.name, context)?;
    let value = json!({
        "dir": args.dir, "instance": report.settings.instance.to_string(), "url": url,
        "endpoint": report.settings.endpoint, "context": args.name,
        "author_key": report.author_key.to_string(), "ca": report.gateway_ca,
    });
    out.answer(&value, |text, _| {
        let (dir, name) = (args.dir.display(), &args.name);
        text.push_str(&format!(
            "made a control plane in {dir}\n\
             gateways reach it at {}, operators at {url}\n\
             its operator token is kept in {} as context `{name}`\n\
             its gateways run what key `{}` signs\n\n  \
             cloud-sync serve --dir {dir}\n  holm gateway add gw-1\n",
            report.settings.endpoint,
            contexts.path().display(),
            args.key,
        ));
    })
}

fn init(args: &CloudInit, global: &Global) -> Done<InitReport> {
    let host = args.host.first().map_or("localhost", String::as_str);
    let options = InitOptions {
        names: args.host.clone(),
        endpoint: Some(endpoint(host, args.mqtt_port)),
        author_key: KeyStore::open(global)?.path(&args.key)?,
        author: args.key.clone(),
        operator: "admin".to_owned(),
    };
    let failed = |error: cloud_sync::IdentityError| Failure::failed(error.to_string());
    let report = cloud_sync::init(&args.dir, &options, Clock::system().now_ms()).map_err(failed)?;
    bind(args, report)
}

/// Writes where it listens: a control plane with a name is meant to be reached from elsewhere, over
/// IPv6 and IPv4.
fn bind(args: &CloudInit, mut report: InitReport) -> Done<InitReport> {
    let address = if args.host.is_empty() { "127.0.0.1" } else { "[::]" };
    report.settings.http = format!("{address}:{}", args.http_port);
    report.settings.mqtt = format!("{address}:{}", args.mqtt_port);
    let path = args.dir.join("cloud.toml");
    let text = toml::to_string(&report.settings)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    let text = format!("# A Holm control plane. Edit while the server is stopped.\n{text}");
    std::fs::write(&path, text).map_err(|error| Failure::file("write", &path, &error))?;
    Ok(report)
}

/// `holm gateway`
///
/// # Errors
/// The control plane is not reachable or refuses.
pub fn gateway(args: &Gateway, global: &Global, out: &Out) -> Done {
    match &args.command {
        GatewayCommand::Add { name } => {
            let (_, context) = Contexts::load(global)?.chosen(global)?;
            let api = Api::new(&context)?;
            let before: Option<Value> = match api.get(&format!("/v1/gateways/{}", escaped(name))) {
                Ok(gateway) => Some(gateway),
                Err(failure) if failure.exit == Exit::NotFound => None,
                Err(failure) => return Err(failure),
            };
            let body = json!({ "name": name });
            let value: Value = api.call(Method::Post, "/v1/gateways", Some(&body))?;
            let token = value["token"].as_str().unwrap_or_default();
            out.answer(&value, |text, _| {
                text.push_str(&format!("{token}\n"));
                out.note(&format!(
                    "the token enrols `{name}` once, within a day: on the gateway run \
                     `edge-agent enroll TOKEN`, then `edge-agent run`"
                ));
                match before {
                    Some(known) if known["enrolled_ms"].is_u64() => out.note(&format!(
                        "`{name}` is enrolled already: whoever enrols with this token takes its \
                         place"
                    )),
                    Some(_) => out.note("a token printed for it before no longer works"),
                    None => {}
                }
            })
        }
        GatewayCommand::Remove { name, yes } => {
            if !yes {
                let problem = format!("this would end all access of `{name}`");
                return Err(Failure::usage(problem).next("add --yes"));
            }
            let (_, context) = Contexts::load(global)?.chosen(global)?;
            let path = format!("/v1/gateways/{}", escaped(name));
            let value: Value = Api::new(&context)?.call(Method::Delete, &path, None::<&()>)?;
            out.answer(&value, |text, _| {
                text.push_str(&format!("`{name}` has no access any more; its data are kept\n"));
            })
        }
        GatewayCommand::List => {
            let args = crate::args::Status { gateway: None, watch: false };
            crate::status::run(&args, global, out)
        }
    }
}
