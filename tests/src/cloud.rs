//! A control plane under test: its process, and its HTTP API as a client sees it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::author::Author;
use crate::link::Link;
use crate::process::{Process, program, wait_for};

/// A control plane whose gateways reach it through a [`Link`].
pub struct Cloud {
    dir: PathBuf,
    http: SocketAddr,
    mqtt: SocketAddr,
    process: Option<Process>,
    api: ureq::Agent,
    token: String,
    /// Between the gateways and the control plane.
    pub link: Link,
}

fn free_port(at: IpAddr) -> Result<SocketAddr> {
    Ok(TcpListener::bind((at, 0))?.local_addr()?)
}

impl Cloud {
    /// `holm cloud init`, with the author's key as the one that gateways trust, and `serve`.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(dir: &Path, author: &Author) -> Result<Self> {
        Self::start_as(dir, author, "localhost")
    }

    /// The same, for gateways to which this machine is `host`. It listens on loopback, on that of IPv6
    /// if `host` is that: an emulated machine reaches it by an address of its emulator.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_as(dir: &Path, author: &Author, host: &str) -> Result<Self> {
        let own = host.parse::<IpAddr>().ok().filter(IpAddr::is_loopback);
        let mqtt = free_port(own.unwrap_or(Ipv4Addr::LOCALHOST.into()))?;
        let http = free_port(Ipv4Addr::LOCALHOST.into())?;
        let link = Link::to(mqtt)?;
        let text = |port: u16| port.to_string();
        let (link_port, http_port) = (text(link.address().port()), text(http.port()));
        let dir_text = dir.to_str().context("the path is not UTF-8")?;
        author.holm(&[
            "cloud",
            "init",
            dir_text,
            "--host",
            host,
            "--host",
            "localhost",
            "--mqtt-port",
            &link_port,
            "--http-port",
            &http_port,
            "--name",
            "demo",
        ])?;
        // Operators are on this machine.
        author.reach(
            &format!("https://{}", sync_protocol::enroll::endpoint(host, http.port())),
            &format!("https://localhost:{http_port}"),
        )?;
        let pem = std::fs::read(dir.join("tls/gateway-ca.pem"))?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(vec![Certificate::from_pem(&pem)?])))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let api = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        let token = author.operator_token()?;
        let mut cloud = Self { dir: dir.to_owned(), http, mqtt, process: None, api, token, link };
        cloud.serve()?;
        Ok(cloud)
    }

    /// Starts the server process.
    ///
    /// # Errors
    /// It does not come up.
    pub fn serve(&mut self) -> Result<()> {
        let mut command = Command::new(program("cloud-sync")?);
        command.arg("serve").arg("--dir").arg(&self.dir);
        command.args(["--http", &self.http.to_string(), "--mqtt", &self.mqtt.to_string()]);
        let log = self.dir.with_extension("log");
        self.process = Some(Process::start("cloud-sync", command, &log)?);
        wait_for(Duration::from_secs(60), &format!("cloud-sync (see {})", log.display()), || {
            Ok(self.get("/v1/health").ok().map(|_| ()))
        })
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It was not running.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the control plane is not running")?.kill()
    }

    /// Process id.
    ///
    /// # Errors
    /// It is not running.
    pub fn id(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the control plane is not running")?.id())
    }

    /// Its web page and API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.http.port())
    }

    /// GET of the API.
    ///
    /// # Errors
    /// The server says no.
    pub fn get(&self, path: &str) -> Result<Value> {
        let url = format!("{}{path}", self.url());
        let request = self.api.get(&url).header("authorization", format!("Bearer {}", self.token));
        let text =
            request.call().with_context(|| format!("GET {path}"))?.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// All rows of a stream of a gateway, in order of position.
    ///
    /// # Errors
    /// The server says no.
    pub fn stream(&self, gateway: &str, stream: u8) -> Result<Vec<Value>> {
        let (mut rows, mut from) = (Vec::new(), Some(1));
        while let Some(next) = from {
            let path =
                format!("/v1/gateways/{gateway}/streams/{stream}/records?from={next}&limit=1000");
            let page = self.get(&path)?;
            rows.extend(page["rows"].as_array().into_iter().flatten().cloned());
            from = page["next"].as_u64();
        }
        Ok(rows)
    }
}
