//! `lockgate explain`: reports which route matches a request, why the others do not, and what its backend receives.

use crate::{
    cli::{
        args::{ExplainArgs, parse_header, parse_url},
        cert,
        files::read_files,
        output::{EX_USAGE, print},
    },
    config::{Config, Diagnostics, RunTarget},
    gateway::Gateway,
    http::explain::{Explanation, WouldForward, WouldRefuse, explain as explain_request},
};
use ::http::{Method, Request, header as field, request::Parts};
use anyhow::{Context, bail};
use serde_json::json;
use std::{path::Path, process::ExitCode};

/// Explains one request: returns 0 if it would be forwarded, 1 if it would be refused, 64 if the configuration is
/// invalid.
pub(crate) fn explain(arguments: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let request = request(arguments)?;
    if arguments.url.starts_with("ws:") || arguments.url.starts_with("http:") {
        eprintln!(
            "note: a cleartext listener redirects this request; this explains the request over TLS"
        );
    }
    let (config, data) = (configuration(arguments), arguments.data.data.clone());
    let built = read_files(move || {
        let config = config()?;
        let dev = if config.tls.dev_ca {
            cert::peek(data.as_deref()).ok()
        } else {
            None
        };
        Gateway::build(&config, None, &cert::issuers(dev.as_ref()))
    })?;
    let gateway = match built {
        Ok(gateway) => gateway,
        Err(diagnostics) => {
            eprintln!("{diagnostics}");
            return Ok(ExitCode::from(EX_USAGE));
        }
    };
    let explanation = explain_request(&gateway, &request, arguments.from);
    if arguments.json {
        print(as_json(&explanation))
    } else {
        print(as_text(&explanation))
    }
    Ok(match explanation.outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// Returns a function that loads the file, or builds the configuration that `run` has with the same flags.
fn configuration(
    arguments: &ExplainArgs,
) -> impl FnOnce() -> Result<Config, Diagnostics> + Send + 'static {
    let file = arguments.file.path().map(Path::to_owned);
    let to = arguments.to.clone();
    let (hosts, origins) = (arguments.host.clone(), arguments.origin.clone());
    move || match (file, to) {
        (Some(file), _) => Config::load(&file),
        (None, to) => Ok(Config::for_target(RunTarget {
            to: to.expect("the command line has a file or --to"),
            hosts,
            listen: Vec::new(),
            origins,
            acme: None,
        })),
    }
}

/// Builds the request as a client would send it over HTTP/1.1.
fn request(arguments: &ExplainArgs) -> anyhow::Result<Parts> {
    let url = &arguments.url;
    let uri = parse_url(url, &["wss", "https", "ws", "http"])?;
    let websocket = matches!(uri.scheme_str(), Some("wss" | "ws"));
    let (Some(authority), Some(target)) = (uri.authority(), uri.path_and_query()) else {
        bail!("`{url}` has no host");
    };
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(target.as_str())
        .header(field::HOST, authority.as_str());
    if websocket {
        request = request
            .header(field::UPGRADE, "websocket")
            .header(field::CONNECTION, "Upgrade")
            .header(field::SEC_WEBSOCKET_VERSION, "13")
            .header(field::SEC_WEBSOCKET_KEY, EXAMPLE_KEY);
        if !arguments.protocol.is_empty() {
            let offered = arguments.protocol.join(", ");
            request = request.header(field::SEC_WEBSOCKET_PROTOCOL, offered);
        }
    }
    for line in &arguments.header {
        let (name, value) = parse_header(line)?;
        request = request.header(name, value);
    }
    let request = request
        .body(())
        .with_context(|| format!("`{url}` cannot be requested"))?;
    Ok(request.into_parts().0)
}

fn as_text(explanation: &Explanation) -> String {
    let mut lines = Vec::new();
    for (name, rule, verdict) in &explanation.routes {
        let mark = if verdict == "wins" { "→" } else { " " };
        lines.push(format!("{mark} {name}  {rule}\n      {verdict}"));
    }
    match &explanation.outcome {
        Ok(WouldForward {
            route,
            backends,
            hosts,
            line,
            headers,
            token,
            guards,
            advice,
        }) => {
            lines.push(format!(
                "\nroute {route} forwards it to {}:\n",
                backends.join(" or ")
            ));
            lines.push(format!("  {line}"));
            for (name, value) in headers {
                lines.push(format!("  {name}: {value}"));
            }
            for (backend, host) in hosts {
                lines.push(format!("\n{backend} receives host: {host}"));
            }
            if !token.is_empty() {
                lines.push(format!("\ntoken: {token}"));
            }
            for (name, verdict) in guards {
                lines.push(format!("\nguard {name}: {verdict}"));
            }
            if !advice.is_empty() {
                lines.push(format!("\nsetting for that server: {advice}"));
            }
        }
        Err(WouldRefuse { status, why, text }) => {
            lines.push(format!("\nrefused with {status} ({why}): {text}"));
        }
    }
    lines.join("\n")
}

fn as_json(explanation: &Explanation) -> serde_json::Value {
    let routes: Vec<_> = explanation
        .routes
        .iter()
        .map(|(name, rule, verdict)| json!({ "name": name, "rule": rule, "verdict": verdict }))
        .collect();
    match &explanation.outcome {
        Ok(forwarded) => json!({
            "routes": routes,
            "route": forwarded.route,
            "backends": forwarded.backends,
            "hosts": forwarded.hosts.iter().map(|(backend, host)| json!({ "backend": backend, "host": host })).collect::<Vec<_>>(),
            "line": forwarded.line,
            "headers": forwarded.headers,
            "token": forwarded.token,
            "guards": forwarded.guards.iter().map(|(name, verdict)| json!({ "name": name, "verdict": verdict })).collect::<Vec<_>>(),
            "advice": forwarded.advice,
        }),
        Err(refused) => json!({
            "routes": routes,
            "status": refused.status,
            "why": refused.why,
            "text": refused.text,
        }),
    }
}

/// The key of the example in RFC 6455 §1.3: no request is sent.
const EXAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
