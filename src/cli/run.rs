//! `lockgate run`.

use crate::{
    cli::{
        announcement::Announcement,
        args::{Overrides, RunArgs},
        cert, client,
        output::{EX_USAGE, eprint},
        startup::{STOPPED, Startup},
    },
    config::{self, Acme, AdminAddress, Config, Diagnostics, Located, RunTarget, Secret},
    gateway::Gateway,
    observe::{access::AccessLog, logging},
    server::{
        Drained, Server,
        active_config::{ConfigSource, NamedContents},
        listeners::StartError,
    },
};
use anyhow::{Context, bail};
use std::{
    collections::BTreeSet,
    env, io,
    path::{self, Path},
    pin::pin,
    process::ExitCode,
    thread,
    time::Duration,
};
use tokio::runtime::{self, Runtime};
use tracing::{info, warn};

/// Serves the configuration given by flags or by a file.
pub(crate) fn run(arguments: RunArgs) -> anyhow::Result<ExitCode> {
    let mut startup = Startup::begin()?;
    let data = arguments.data.data.clone();
    let (load, takeover) = (reloader(&arguments), arguments.takeover);
    match startup.read(move || configure(arguments))?? {
        Ok(config) => serve(startup, config, load, data.as_deref(), takeover, |_| Ok(())),
        Err(diagnostics) => {
            eprintln!("{diagnostics}");
            Ok(ExitCode::from(EX_USAGE))
        }
    }
}

/// Serves until a stop signal; with `takeover`, replaces the running process.
/// `on_bound` is called inside the runtime once all listeners are bound.
pub(crate) fn serve(
    mut startup: Startup,
    config: Config,
    load: Option<ConfigLoader>,
    data: Option<&Path>,
    takeover: bool,
    on_bound: impl FnOnce(&Server) -> io::Result<()>,
) -> anyhow::Result<ExitCode> {
    let _log = logging::init(&config.server.log).context("cannot start the log")?;
    if let Some(source) = config.sources.first() {
        let file = path::absolute(&source.path).unwrap_or_else(|_| source.path.clone());
        info!(file = %file.display(), "configuration file read");
    }
    let data = data.map(Path::to_owned);
    let (config, dev, contents, gateway) = startup.read(move || {
        let dev = config.tls.dev_ca.then(|| cert::open(data.as_deref()));
        let dev = dev.transpose()?;
        // Before the build: a change in the meantime is then noticed by the first comparison.
        let contents = NamedContents::read(&config);
        let gateway = Gateway::build(&config, None, &cert::issuers(dev.as_ref()));
        anyhow::Ok((config, dev, contents, gateway))
    })??;
    let gateway = match gateway {
        Ok(gateway) => gateway,
        Err(diagnostics) => {
            eprintln!("{diagnostics}");
            return Ok(ExitCode::from(EX_USAGE));
        }
    };
    let (access, _access) = AccessLog::open(&config.server.access, config.server.log.format)
        .context("cannot open the access log")?;
    let runtime = runtime().context("cannot start the runtime")?;
    let (mut signals, mut inherited) = startup.finish();
    let drained = runtime.block_on(async {
        let prepared = async {
            if takeover {
                let server = &config.server;
                client::take_over(&server.admin, &server.admin_token, &mut inherited).await?;
            }
            let routes = config.routes.clone();
            let ca = dev.as_ref().map(|dev| dev.certificate_path().to_owned());
            let source = ConfigSource {
                load,
                dev,
                contents,
            };
            let announcement = Announcement::of(&config);
            let admin = config.server.admin.value.clone();
            let token = config.server.admin_token.clone();
            let server = match Server::bind(config, gateway, access, source, &mut inherited) {
                Err(error) if error.is_in_use() && !takeover => {
                    return Err(address_in_use(error, &admin, &token).await);
                }
                bound => bound?,
            };
            announce(&routes, &server, ca.as_deref());
            announcement.print();
            on_bound(&server)?;
            // Nothing after this can fail.
            let predecessor = inherited
                .ready()
                .await
                .context("the takeover was not completed")?;
            anyhow::Ok((server, predecessor, announcement))
        };
        let (server, predecessor, announcement) = tokio::select! {
            biased;
            () = signals.stop() => bail!(STOPPED),
            prepared = prepared => prepared?,
        };
        let mut serving = pin!(server.run(predecessor, async || signals.next().await));
        anyhow::Ok(tokio::select! {
            drained = &mut serving => drained,
            () = announcement.report_backends() => serving.await,
        })
    });
    // Tasks that are still running are not awaited.
    runtime.shutdown_timeout(Duration::from_millis(100));
    log_end(&drained?);
    Ok(ExitCode::SUCCESS)
}

/// Logs why a shutdown ended before every session and connection had ended.
fn log_end(drained: &Drained) {
    let (process, sessions) = (std::process::id(), drained.aborted_sessions);
    match (drained.by_signal, sessions) {
        _ if drained.clean => {}
        (true, 0) => info!(process, "stopped by a second signal"),
        (true, _) => warn!(
            process,
            sessions, "stopped by a second signal; remaining sessions were cut"
        ),
        (false, 0) => warn!(
            process,
            "shutdown deadline reached; remaining requests and connections were cut"
        ),
        (false, _) => warn!(
            process,
            sessions, "shutdown deadline reached; remaining sessions were cut"
        ),
    }
}

/// Returns the error for an address that is in use: it names the lockgate that answers on the admin address, if any.
async fn address_in_use(error: StartError, admin: &AdminAddress, token: &Secret) -> anyhow::Error {
    match client::running_process(admin, token).await {
        Some(process) => {
            anyhow::Error::new(error.with_hint(
                "a lockgate runs on this machine; stop it, or replace it with --takeover",
            ))
            .context(format!("a lockgate runs already ({process})"))
        }
        None => error.into(),
    }
}

/// Builds the runtime: single-threaded on one core, which avoids cross-thread wake-ups
/// (measured in `tests/bench/field/RESULTS.md`).
fn runtime() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let has_setting = env::var_os("TOKIO_WORKER_THREADS").is_some();
    let mut runtime = if cores == 1 && !has_setting {
        runtime::Builder::new_current_thread()
    } else {
        runtime::Builder::new_multi_thread()
    };
    runtime.enable_all().build()
}

/// A function that reads the configuration again in the same way as at startup.
type ConfigLoader = Box<dyn Fn() -> Result<Config, Diagnostics> + Send + Sync>;

/// Returns the function that reloads the configuration; `None` without a file, because flags do not change.
fn reloader(arguments: &RunArgs) -> Option<ConfigLoader> {
    let file = arguments.file.path()?.to_owned();
    let overrides = arguments.overrides.clone();
    Some(Box::new(move || {
        let mut config = Config::load(&file)?;
        override_keys(overrides.clone(), &mut config);
        Ok(config)
    }))
}

fn configure(arguments: RunArgs) -> anyhow::Result<Result<Config, Diagnostics>> {
    let mut config = match (arguments.file.path(), arguments.to) {
        (Some(file), _) => match Config::load(file) {
            Ok(config) => config,
            Err(diagnostics) => return Ok(Err(diagnostics)),
        },
        (None, to) => Config::for_target(RunTarget {
            to: to.expect("the command line has a file or --to"),
            hosts: arguments.host,
            listen: arguments.listen,
            origins: arguments.origin,
            acme: match arguments.acme {
                Some(contact) => Some(Acme {
                    contact: Some(contact),
                    directory: arguments
                        .acme_directory
                        .unwrap_or(Acme::default().directory),
                    ca_file: arguments.acme_ca_file,
                    storage: cert::folder(arguments.data.data.as_deref())?,
                    ..Acme::default()
                }),
                None => None,
            },
        }),
    };
    override_keys(arguments.overrides, &mut config);
    Ok(Ok(config))
}

/// Applies the flags, and removes the warnings of an address that a flag replaces.
fn override_keys(overrides: Overrides, config: &mut Config) {
    let written = config.server.admin.at;
    overrides.apply(&mut config.server);
    if written != config.server.admin.at {
        config.warnings.list.retain(|warning| warning.at != written);
    }
}

/// Prints the URLs, that other names work if any host is served, and how to trust the development CA. Prints nothing
/// without a development CA.
fn announce(routes: &[Located<config::Route>], server: &Server, ca: Option<&Path>) {
    let Some(ca) = ca else { return };
    let port = https_port(server);
    let mut urls = BTreeSet::new();
    for route in routes {
        for host in &route.hosts {
            let name = match host {
                config::HostPattern::Exact(name) if name.contains(':') => {
                    format!("[{name}]")
                }
                config::HostPattern::Exact(name) => name.to_string(),
                config::HostPattern::Under(suffix) => format!("any-name.{suffix}"),
                config::HostPattern::Any => "localhost".to_owned(),
            };
            urls.insert(format!("wss://{name}:{port}"));
        }
    }
    for url in urls {
        eprint(format_args!("  {url}"));
    }
    let mut hosts = routes.iter().flat_map(|route| &route.hosts);
    if hosts.any(|host| *host == config::HostPattern::Any) {
        eprint("  any other name works too: its certificate is signed when a client connects");
    }
    let ca = ca.display();
    eprint(format_args!(
        "  the certificates are signed by a development CA that no machine trusts by default: {ca}\n  \
         to trust it: `lockgate cert trust`, or in Python: ssl.create_default_context(cafile=\"{ca}\")"
    ));
}

/// Returns the port of the first `https` listener.
pub(crate) fn https_port(server: &Server) -> String {
    let mut listeners = server.listeners().into_iter();
    let https = listeners.find(|listener| listener.kind == "https");
    let port = https.and_then(|https| Some(https.address.rsplit_once(':')?.1.to_owned()));
    port.unwrap_or_else(|| "443".to_owned())
}
