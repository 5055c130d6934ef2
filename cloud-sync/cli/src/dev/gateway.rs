//! The gateway of `holm dev`.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use edge_agent::agent::{Agent, RunError, Stopper};
use edge_agent::enroll::enroll;
use edge_agent::identity::Identity;
use edge_agent::settings::Settings;
use edge_agent::uplink::proxy::Choice;
use serde_json::{Value, json};
use sync_protocol::enroll::Token;
use tokio::runtime::Runtime;

use super::GATEWAY;
use crate::failure::{Done, Failure};
use crate::http::{Api, Method};
use crate::out::Out;

/// How long its start may take.
const START: Duration = Duration::from_secs(30);

/// A gateway that runs on a thread of this process.
pub(crate) struct Running {
    stopper: Stopper,
    thread: JoinHandle<Result<(), RunError>>,
}

impl Running {
    /// Starts it in `folder`, enrolled first if it is new. `accounts` are lines of its configuration: who may do what.
    pub(crate) fn start(
        folder: &Path,
        api: &Api,
        port: u16,
        accounts: &str,
        io: &Runtime,
        out: &Out,
    ) -> Done<Self> {
        let data = folder.join("gateway");
        let known = Identity::load(&data).map_err(|error| Failure::file("read", &data, &error))?;
        if known.is_none() {
            out.progress("Enrolling", &format!("gateway `{GATEWAY}`"));
            let body = json!({ "name": GATEWAY });
            let answer: Value = api.call(Method::Post, "/v1/gateways", Some(&body))?;
            let token: Token = answer["token"]
                .as_str()
                .and_then(|token| token.parse().ok())
                .ok_or_else(|| Failure::failed("the control plane gave no enrolment token"))?;
            io.block_on(enroll(&token, &data, &Choice::Direct)).map_err(|error| failed(&error))?;
        }
        let settings = settings(&data, port, accounts)?;
        let exe = std::env::current_exe().map_err(|error| failed(&error))?;
        let agent =
            Agent::new(settings, exe, io.handle().clone()).map_err(|error| failed(&error))?;
        let stopper = agent.stopper();
        let thread = std::thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || agent.run())
            .map_err(|error| failed(&error))?;
        wait_for(port, thread).map(|thread| Self { stopper, thread })
    }

    /// Stops it and waits until what it took is on disk.
    pub(crate) fn stop(self) {
        self.stopper.stop();
        // It ran; how it ended is in nobody's way now.
        let _ = self.thread.join();
    }
}

/// Whether the gateway's broker will get its port: asked before anything is made, and because a
/// foreign broker on it would look like the gateway.
pub(crate) fn check_port(port: u16) -> Done {
    std::net::TcpListener::bind(("127.0.0.1", port)).map(drop).map_err(|error| {
        Failure::failed(format!("port {port} on 127.0.0.1 cannot be used: {error}"))
            .next("does another broker or `holm dev` run on it? choose another one with --port")
    })
}

type Thread = JoinHandle<Result<(), RunError>>;

/// Waits until it listens; when it ends instead, says why.
fn wait_for(port: u16, thread: Thread) -> Done<Thread> {
    let end = std::time::Instant::now() + START;
    while std::time::Instant::now() < end {
        if thread.is_finished() {
            let why = match thread.join() {
                Ok(Ok(())) => "it stopped by itself".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it crashed".to_owned(),
            };
            return Err(failed(&why));
        }
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(thread);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(failed(&"it does not listen"))
}

fn settings(data: &Path, port: u16, accounts: &str) -> Done<Settings> {
    let data_dir = toml::Value::String(absolute(data)?.display().to_string());
    let text = format!(
        "name = \"{GATEWAY}\"\n\
         data_dir = {data_dir}\n\
         # Whoever develops ends it as it comes; that is no crash loop.\n\
         safe_mode_after = 0\n\
         [[listeners]]\n\
         bind = \"127.0.0.1:{port}\"\n\
         {accounts}"
    );
    Settings::parse(&text).map_err(|problems| {
        let words: Vec<_> = problems.iter().map(ToString::to_string).collect();
        failed(&words.join("; "))
    })
}

fn absolute(path: &Path) -> Done<PathBuf> {
    std::path::absolute(path).map_err(|error| Failure::file("find", path, &error))
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("the gateway does not start: {error}"))
}
