//! A control plane for one test, in this process or as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use cloud_sync::{Clock, Config, InitOptions, InitReport, Plaintext, Running, init};
use serde_json::{Value, json};
use sync_protocol::SigningKey;
use sync_protocol::enroll::Token;

use crate::schema;

/// Any address, any free port.
pub(crate) fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

enum Backend {
    InProcess(Running),
    Process(Child),
    Stopped,
}

/// A control plane with its directory.
pub(crate) struct Cloud {
    pub(crate) report: InitReport,
    pub(crate) http: SocketAddr,
    pub(crate) mqtt: SocketAddr,
    backend: Backend,
    temp: Arc<tempfile::TempDir>,
}

fn new_dir() -> (Arc<tempfile::TempDir>, InitReport) {
    let temp = Arc::new(tempfile::tempdir().unwrap());
    let options = InitOptions {
        names: Vec::new(),
        endpoint: None,
        author_key: temp.path().join("author.pem"),
        author: "me".into(),
        operator: "admin".into(),
    };
    let report = init(&temp.path().join("cloud"), &options, Clock::system().now_ms()).unwrap();
    (temp, report)
}

fn config(temp: &tempfile::TempDir) -> Config {
    Config {
        http: Some(any()),
        mqtt: Some(any()),
        http_plaintext: Plaintext::OnLoopback,
        ..Config::new(temp.path().join("cloud"))
    }
}

fn spawn(temp: &tempfile::TempDir) -> (Child, SocketAddr, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloud-sync"))
        .args(["serve", "--http-plaintext", "--log-format", "json"])
        .args(["--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--dir"])
        .arg(temp.path().join("cloud"))
        .env("HOLM_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let addresses = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "the server ended before it was up");
        let fields = serde_json::from_str::<Value>(&line).unwrap()["fields"].clone();
        if let (Some(http), Some(mqtt)) = (fields["http"].as_str(), fields["mqtt"].as_str()) {
            break (http.parse().unwrap(), mqtt.parse().unwrap());
        }
    };
    // Somebody must read on, or the server would block on a full pipe.
    std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
    (child, addresses.0, addresses.1)
}

impl Cloud {
    /// In this process.
    pub(crate) async fn start() -> Self {
        let (temp, report) = new_dir();
        let running = cloud_sync::start(config(&temp)).await.unwrap();
        let (http, mqtt) = (running.http_addr(), running.mqtt_addr());
        Self { report, http, mqtt, backend: Backend::InProcess(running), temp }
    }

    /// As a process, to be killed.
    pub(crate) fn spawn() -> Self {
        let (temp, report) = new_dir();
        let (child, http, mqtt) = spawn(&temp);
        Self { report, http, mqtt, backend: Backend::Process(child), temp }
    }

    /// The control plane's directory.
    pub(crate) fn dir(&self) -> PathBuf {
        self.temp.path().join("cloud")
    }

    /// The author key that `init` made.
    pub(crate) fn author(&self) -> SigningKey {
        let pem = std::fs::read_to_string(self.temp.path().join("author.pem")).unwrap();
        SigningKey::from_pem(&pem).unwrap()
    }

    /// Stops well and starts again, elsewhere.
    pub(crate) async fn restart(&mut self) {
        match std::mem::replace(&mut self.backend, Backend::Stopped) {
            Backend::InProcess(running) => running.stop().await,
            Backend::Process(_) | Backend::Stopped => panic!("not in this process"),
        }
        let running = cloud_sync::start(config(&self.temp)).await.unwrap();
        (self.http, self.mqtt) = (running.http_addr(), running.mqtt_addr());
        self.backend = Backend::InProcess(running);
    }

    /// SIGKILL, then a new process.
    pub(crate) fn kill_and_spawn(&mut self) {
        self.kill();
        let (child, http, mqtt) = spawn(&self.temp);
        (self.backend, self.http, self.mqtt) = (Backend::Process(child), http, mqtt);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Backend::Process(child) = &mut self.backend {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM; gives whether it ended well.
    pub(crate) fn terminate(&mut self) -> bool {
        let Backend::Process(child) = &mut self.backend else { panic!("not a process") };
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().success()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, body.to_string().into_bytes()).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Vec<u8>) -> (u16, Value) {
        let (url, token) = (format!("http://{}{path}", self.http), &self.report.operator_token);
        call(method, url, Some(token), body).await
    }

    /// Adds a gateway over the API.
    pub(crate) async fn add_gateway(&self, name: &str) -> Token {
        let (status, reply) = self.post("/v1/gateways", json!({"name": name})).await;
        assert_eq!(status, 201, "{reply}");
        reply["token"].as_str().unwrap().parse().unwrap()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if let Backend::Process(child) = &mut self.backend {
            // It may be gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One HTTP request.
pub(crate) async fn call(
    method: &str,
    url: String,
    token: Option<&str>,
    body: Vec<u8>,
) -> (u16, Value) {
    let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(body).unwrap();
    let (status, answer) = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut reply = agent.run(request).unwrap();
        let text = reply.body_mut().read_to_string().unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (reply.status().as_u16(), value)
    })
    .await
    .unwrap();
    schema::check(method, &path, status, &answer);
    (status, answer)
}
