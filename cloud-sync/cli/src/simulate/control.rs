//! `holm simulate set`: a running simulation listens on a socket in its folder. A request is a line of JSON, and so is the
//! answer.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::shared::{Set, Shared};
use crate::args::SimulateSet;
use crate::failure::{Done, Exit, Failure};
use crate::out::{Out, clean};

const SOCKET: &str = "control.sock";
const LINE_BYTES_MAX: u64 = 4 << 10;
/// Longest time until a device has the value.
const SET_MAX: Duration = Duration::from_secs(20);
/// Requests are answered one at a time; one may take so long.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    device: String,
    sensor: String,
    /// None: back to its waveform.
    value: Option<f64>,
}

/// The socket; dropped, it is gone.
pub(super) struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // A new simulation makes a new one in its place.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens in the folder of the simulation.
///
/// # Errors
/// Another simulation runs in it, or the socket cannot be made.
pub(super) fn listen(dir: &Path, shared: &Arc<Shared>) -> Done<Socket> {
    let path = dir.join(SOCKET);
    if UnixStream::connect(&path).is_ok() {
        let problem = format!("a simulation runs in {} already", dir.display());
        return Err(Failure::failed(problem).next("end it, or use another folder: --run DIR"));
    }
    let _ = std::fs::remove_file(&path);
    let listener =
        UnixListener::bind(&path).map_err(|error| Failure::file("make", &path, &error))?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Who says nothing, or too much, is not answered.
                    let _ = timeout(REQUEST_MAX, serve(stream, &shared)).await;
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(Socket(path))
}

async fn serve(stream: tokio::net::UnixStream, shared: &Shared) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => match set(request, shared).await {
            Ok((before, after)) => json!({ "before": before, "after": after }),
            Err(why) => json!({ "error": why }),
        },
        Err(error) => json!({ "error": format!("no request: {error}") }),
    };
    write.write_all(format!("{answer}\n").as_bytes()).await
}

async fn set(request: Request, shared: &Shared) -> Result<(f64, f64), String> {
    let Request { device, sensor, value } = request;
    let known = shared.handles.iter().find(|handle| handle.plan.name == device);
    let handle = known.ok_or_else(|| {
        let last = shared.handles.last().map(|handle| handle.plan.name.as_str());
        format!("there is no device `{device}`; the last one is {}", last.unwrap_or("none"))
    })?;
    if handle.plan.is_hostile {
        return Err(format!("`{device}` is hostile: it measures nothing"));
    }
    let (answer, answered) = oneshot::channel();
    let full = |_| format!("`{device}` has no time: it is off, or not joined yet");
    handle.sets.try_send(Set { sensor, value, answer }).map_err(full)?;
    match timeout(SET_MAX, answered).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(format!("`{device}` has ended")),
        Err(_) => {
            Err(format!("`{device}` does not answer; it takes the value when it is on again"))
        }
    }
}

/// `holm simulate set`
///
/// # Errors
/// No simulation runs in the folder, or the device does not take the value.
pub(super) fn ask(args: &SimulateSet, out: &Out) -> Done {
    let value = match args.value.as_str() {
        "auto" => None,
        text => {
            Some(text.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(|| {
                Failure::usage(format!("`{}` is no number", clean(text)))
                    .next("`auto` gives the sensor back to its waveform")
            })?)
        }
    };
    let path = args.run.join(SOCKET);
    let answer =
        talk(&path, &Request { device: args.device.clone(), sensor: args.sensor.clone(), value })
            .map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                let problem = format!("no simulation runs in {}", args.run.display());
                Failure::new(Exit::NotFound, problem)
                    .next("go to the folder it was started in, or name its folder: --run DIR")
            }
            _ => Failure::file("talk to", &path, &error),
        })?;
    if let Some(why) = answer["error"].as_str() {
        return Err(Failure::failed(clean(why)));
    }
    let value = json!({
        "device": args.device, "sensor": args.sensor,
        "before": answer["before"], "after": answer["after"],
    });
    out.answer(&value, |text, _| {
        text.push_str(&format!(
            "{} {}: {} before, {} now\n",
            args.device, args.sensor, answer["before"], answer["after"]
        ));
    })
}

fn talk(path: &Path, request: &Request) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(REQUEST_MAX))?;
    let line = serde_json::to_string(request)?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    std::io::Read::take(BufReader::new(stream), LINE_BYTES_MAX).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(Into::into)
}
