//! An HTTP proxy that connects by CONNECT, as companies have them: it alone knows where a name is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Bytes of a request, at most.
const REQUEST_BYTES_MAX: u64 = 8 << 10;
/// How long a client may take to ask.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Who is let through, and where to.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `user:password` in base64, as it is asked for; `None`: everybody.
    pub login: Option<String>,
    /// The only place that may be asked for, `host:port`.
    pub place: String,
    /// Where that is.
    pub target: SocketAddr,
}

/// A proxy that runs until this process ends.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Proxy {
    /// Listens on loopback.
    ///
    /// # Errors
    /// No port can be bound.
    pub fn start(rules: Rules) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let answers = Arc::<Mutex<Vec<u16>>>::default();
        let told = Arc::clone(&answers);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (rules, told) = (rules.clone(), Arc::clone(&told));
                thread::spawn(move || {
                    let note = |status| {
                        told.lock().unwrap_or_else(PoisonError::into_inner).push(status);
                    };
                    // A client that hangs up is gone.
                    let _ = serve(client, &rules, note);
                });
            }
        });
        Ok(Self { address, answers })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it has answered with this status.
    #[must_use]
    pub fn answered(&self, status: u16) -> usize {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().filter(|answer| **answer == status).count()
    }
}

fn serve(client: TcpStream, rules: &Rules, note: impl Fn(u16)) -> Result<()> {
    client.set_read_timeout(Some(REQUEST_MAX))?;
    let mut reader = BufReader::new(client.try_clone()?.take(REQUEST_BYTES_MAX));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            bail!("the request does not end");
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = judge(&lines, rules);
    note(status);
    let mut client = client;
    if status != 200 {
        write!(client, "HTTP/1.1 {status} No\r\nContent-Length: 4\r\n\r\nno.\n")?;
        return Ok(());
    }
    let server = TcpStream::connect(rules.target).context("the target")?;
    write!(client, "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")?;
    client.set_read_timeout(None)?;
    let (up, down) = (client.try_clone()?, server.try_clone()?);
    let back = thread::spawn(move || pump(server, client));
    pump(up, down);
    // Whoever pumps panics with nobody to tell.
    let _ = back.join();
    Ok(())
}

fn judge(lines: &[String], rules: &Rules) -> u16 {
    let asked = lines.first().map(String::as_str).unwrap_or_default();
    let header = |name: &str| {
        lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    let login = header("Proxy-Authorization");
    let known = rules.login.as_ref().map(|login| format!("Basic {login}"));
    if known.is_some() && login != known {
        return 407;
    }
    let is_allowed = asked == format!("CONNECT {} HTTP/1.1", rules.place);
    if is_allowed && header("Host").as_ref() == Some(&rules.place) { 200 } else { 403 }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    // An end is an end, whatever its reason.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
