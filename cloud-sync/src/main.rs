//! `cloud-sync`: the control plane as one program.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cloud_sync::{Clock, Config, InitOptions, Plaintext};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Parser)]
#[command(name = "cloud-sync", version, about = "The Holm control plane")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the directory of a new control plane.
    Init(InitArgs),
    /// Run the control plane in a directory.
    Serve(ServeArgs),
    /// Add a gateway and print its one-time token.
    AddGateway {
        /// The control plane's directory.
        #[arg(long, env = "HOLM_CLOUD_DIR")]
        dir: PathBuf,
        /// Its name: a-z, 0-9 and inner hyphens.
        name: String,
    },
}

#[derive(Args)]
struct InitArgs {
    /// The directory to make.
    #[arg(long, env = "HOLM_CLOUD_DIR")]
    dir: PathBuf,
    /// The author's private key file; it is made when it is not there.
    #[arg(long)]
    author_key: PathBuf,
    /// Host name or address in the server's certificate (several times for several).
    #[arg(long = "name")]
    names: Vec<String>,
    /// `host:port` at which gateways will reach this control plane.
    #[arg(long)]
    endpoint: Option<String>,
}

#[derive(Args)]
struct ServeArgs {
    /// The control plane's directory.
    #[arg(long, env = "HOLM_CLOUD_DIR")]
    dir: PathBuf,
    /// Where HTTP binds, instead of what cloud.toml says.
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Where MQTT binds, instead of what cloud.toml says.
    #[arg(long)]
    mqtt: Option<SocketAddr>,
    /// `host:port` for gateways, instead of what cloud.toml says.
    #[arg(long)]
    endpoint: Option<String>,
    /// HTTP without TLS, on a loopback address only.
    #[arg(long)]
    http_plaintext: bool,
    /// HTTP without TLS on any address: something in front of it encrypts.
    #[arg(long)]
    http_plaintext_anywhere: bool,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON document a line.
    Json,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloud-sync: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init(args),
        Command::Serve(args) => serve(args),
        Command::AddGateway { dir, name } => {
            let token = cloud_sync::add_gateway(&dir, &name, &Clock::system())
                .map_err(|failure| anyhow::anyhow!("{}; {}", failure.error, failure.hint))?;
            println!("{token}");
            Ok(())
        }
    }
}

fn init(args: InitArgs) -> anyhow::Result<()> {
    let options = InitOptions {
        names: args.names,
        endpoint: args.endpoint,
        author_key: args.author_key.clone(),
        author: "first author".into(),
        operator: "admin".into(),
    };
    let report = cloud_sync::init(&args.dir, &options, Clock::system().now_ms())?;
    println!("control plane   {}", args.dir.display());
    println!("instance        {}", report.settings.instance);
    println!("CA certificate  {}", report.gateway_ca.display());
    println!("author key      {} ({})", args.author_key.display(), report.author_key);
    println!("operator token  {}", report.operator_token);
    println!(
        "The token is shown only now. Start with: cloud-sync serve --dir {}",
        args.dir.display()
    );
    Ok(())
}

fn serve(args: ServeArgs) -> anyhow::Result<()> {
    start_log(args.log_format);
    let http_plaintext = match (args.http_plaintext, args.http_plaintext_anywhere) {
        (_, true) => Plaintext::Anywhere,
        (true, false) => Plaintext::OnLoopback,
        (false, false) => Plaintext::Never,
    };
    let config = Config {
        dir: args.dir,
        http: args.http,
        mqtt: args.mqtt,
        endpoint: args.endpoint,
        http_plaintext,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
        };
        cloud_sync::serve(config, shutdown).await?;
        Ok(())
    })
}

fn start_log(format: LogFormat) {
    let asked = std::env::var("HOLM_LOG").unwrap_or_default();
    let asked = Some(asked.trim()).filter(|asked| !asked.is_empty());
    let filter = asked.and_then(|asked| asked.parse().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry.with(logs.with_ansi(std::io::stderr().is_terminal())).init(),
        LogFormat::Json => registry.with(logs.json()).init(),
    }
}
