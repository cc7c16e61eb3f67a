//! `registry serve`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use registry_http::{HttpOptions, ServeOptions, Tls};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::print;
use crate::admin::{self, Metrics};
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};
use crate::{auth, collector, open_files, replicator, signals};

/// Serves until a signal says to stop.
pub(crate) async fn run(config: &Config) -> Result<(), Failure> {
    let metrics = Metrics::start()?;
    let tls = config.tls.as_ref().map(|(certificate, key)| certificate_of(certificate, key)).transpose()?;
    // The addresses first: whoever starts a second server by mistake learns it before anything is touched.
    let listener = bind("listen", "--listen", &config.listen).await?;
    let admin = match &config.admin {
        Some(address) => Some(bind("admin", "--admin", address).await?),
        None => None,
    };
    let address = local(&listener)?;
    let admin_address = admin.as_ref().map(local).transpose()?;
    for (key, address) in [("listen", Some(address)), ("admin", admin_address)] {
        check_plain(config, key, address)?;
    }
    let stop = signals::stop_token()?;
    let stores = Stores::open(config, Purpose::Serve).await?;
    let auth = match auth::open(config) {
        Ok(auth) => auth,
        Err(failure) => {
            stores.close().await;
            return Err(failure);
        }
    };
    let registry = stores.registry(config);
    let workers = match &stores.zones {
        Some(zones) => Some(replicator::start(zones, &*stores.metadata, &config.data).await?),
        None => None,
    };

    open_files::raise(config.http.max_connections);
    if config.tls.is_none() && config.allow_plain_http && config.http.public_url.is_none() && !config.http.trust_forwarded_headers {
        tracing::warn!("clients that log in are sent to https: if nothing in front of this server speaks it, set http.public_url");
    }
    print(&welcome(config, address, admin_address))?;
    tracing::info!(%address, data = %config.data.display(), read_only = config.read_only, admin = admin_address.map(tracing::field::display), "serving");
    let ended = CancellationToken::new();
    let serving = async {
        let router = registry_http::router(registry.clone(), http_options(config).with_auth(auth));
        let options = secured(serve_options(config), config, tls.as_ref());
        let served = registry_http::serve(listener, router, stop.clone().cancelled_owned(), options).await;
        stop.cancel();
        ended.cancel();
        served
    };
    let administering = async {
        if let Some(listener) = admin {
            let router = {
                let replicated = stores.zones.as_ref().map(|zones| zones.replicated.clone());
                admin::router(registry.clone(), replicated, metrics.clone(), stop.clone())
            };
            // Until the last request of a client has ended: `/readyz` says meanwhile that the server is stopping.
            let options = ServeOptions::default().with_shutdown_deadline(Duration::from_secs(1));
            let options = secured(options, config, tls.as_ref().filter(|_| is_secure(config, admin_address)));
            if let Err(error) = registry_http::serve(listener, router, ended.clone().cancelled_owned(), options).await {
                tracing::error!(%error, "the admin listener ended");
            }
        }
    };
    let collecting = async {
        if let Some(interval) = config.gc.interval.filter(|_| !config.read_only) {
            collector::run(registry.clone(), interval, stop.clone()).await;
        }
    };
    let filling = async {
        if let Some(zones) = &stores.zones {
            replicator::fill(zones, stop.clone()).await;
        }
    };
    let (served, (), (), (), ()) = tokio::join!(serving, administering, collecting, filling, metrics.clone().upkeep(stop.clone()));
    if let Some(workers) = workers {
        // Only now: a push that waits for copies needs somebody to make them.
        replicator::stop(workers, config.shutdown_timeout).await;
    }
    stores.close().await;
    tracing::info!("stopped");
    served.map_err(|error| Failure::because("serving failed", &error))
}

fn http_options(config: &Config) -> HttpOptions {
    let options = HttpOptions::default()
        .with_trust_forwarded_headers(config.http.trust_forwarded_headers)
        .with_body_idle_timeout(config.http.body_idle_timeout);
    let options = match config.http.redirect {
        Some(ttl) => options.with_redirect(ttl),
        None => options,
    };
    let options = match &config.http.public_url {
        Some(url) => options.with_public_url(url),
        None => options,
    };
    match config.http.max_in_flight {
        Some(requests) => options.with_max_in_flight(requests),
        None => options,
    }
}

fn serve_options(config: &Config) -> ServeOptions {
    ServeOptions::default()
        .with_keep_alive(config.http.keep_alive)
        .with_write_idle_timeout(config.http.write_idle_timeout)
        .with_max_connections(config.http.max_connections)
        .with_shutdown_deadline(config.shutdown_timeout)
}

fn certificate_of(certificate: &Path, key: &Path) -> Result<Tls, Failure> {
    Tls::from_files(certificate, key).map_err(|error| {
        Failure::because("tls: there is no certificate to serve with", &error)
            .hint("tls.certificate and tls.key name PEM files that fit each other; `registry certs` makes such")
    })
}

fn secured(options: ServeOptions, config: &Config, tls: Option<&Tls>) -> ServeOptions {
    let options = options.with_prefer_http2(config.http.prefer_http2).with_allow_plain_http(config.allow_plain_http);
    match tls {
        Some(tls) => options.with_tls(tls.clone()),
        None => options,
    }
}

/// Whether TLS is spoken there. The admin listener is left plain on the loopback, where probes and scrapers of the same machine or pod ask.
fn is_secure(config: &Config, admin: Option<SocketAddr>) -> bool {
    config.tls.is_some() && admin.is_none_or(|address| !address.ip().is_loopback())
}

/// Refuses to be reached from other machines without TLS, unless that was asked for.
fn check_plain(config: &Config, key: &str, address: Option<SocketAddr>) -> Result<(), Failure> {
    match address {
        Some(address) if !address.ip().is_loopback() && config.tls.is_none() && !config.allow_plain_http => {
            Err(Failure::new(format!("{key}: {address} can be reached from other machines, and there is no TLS")).hint(
                "make a certificate with `registry certs` and name it with --tls-certificate and --tls-key; or, if a proxy in front speaks TLS, \
                 --allow-plain-http",
            ))
        }
        _ => Ok(()),
    }
}

async fn bind(key: &str, flag: &str, address: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("something else listens there, perhaps another registry; choose another address with {flag} ADDR")
            }
            std::io::ErrorKind::PermissionDenied => format!("ports below 1024 need a privilege; choose another with {flag} ADDR"),
            _ => format!("it must be an address of this machine; choose one with {flag} ADDR"),
        };
        Failure::because(format!("{key}: cannot listen on {address}"), &error).hint(hint)
    })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::because("cannot tell the address", &error))
}

/// What to type next, with the address that a client on this machine uses.
fn welcome(config: &Config, mut address: SocketAddr, admin: Option<SocketAddr>) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    let scheme = |secure| if secure { "https" } else { "http" };
    let (secure, admin_secure) = (config.tls.is_some(), admin.is_some() && is_secure(config, admin));
    let mut text = format!("The registry serves on {}://{address} and keeps its data in {}.\n\n", scheme(secure), config.data.display());
    // Over TLS a client has to know the authority, and the address has to be one of the certificate's.
    let plain = |flag: &str| if secure { String::new() } else { format!("{flag} ") };
    let (pull, push, podman) = (plain("--src-tls-verify=false"), plain("--dest-tls-verify=false"), plain("--tls-verify=false"));
    if config.read_only {
        text.push_str(&format!(
            "It is read-only. Pull an image with one of:\n  \
               skopeo copy {pull}docker://{address}/NAME:TAG oci:image\n  \
               podman pull {podman}{address}/NAME:TAG\n\n"
        ));
    } else {
        text.push_str(&format!(
            "Push a first image with one of:\n  \
               skopeo copy {push}docker://docker.io/library/alpine docker://{address}/alpine\n  \
               skopeo copy {push}docker-archive:image.tar docker://{address}/my/image:v1\n  \
               podman push {podman}alpine {address}/alpine\n  \
               docker tag alpine {address}/alpine && docker push {address}/alpine\n\n"
        ));
    }
    let needs_log_in = config.auth.users.exists() || config.auth.access.is_some() || !config.auth.issuers.is_empty();
    if needs_log_in {
        text.push_str(&format!("Log in first:  skopeo login {}{address}\n", plain("--tls-verify=false")));
    } else {
        text.push_str("Nobody has to log in. To change that:  registry user add NAME --group writers\n");
    }
    if let Some(admin) = admin {
        text.push_str(&format!("Health and metrics:  {}://{admin}/healthz, /readyz, /metrics\n", scheme(admin_secure)));
    }
    text.push_str(&format!("See what is there:  curl {}://{address}/v2/_catalog\n", scheme(secure)));
    if config.zones.len() > 1 {
        let names: Vec<_> = config.zones.iter().map(|zone| zone.name.as_str()).collect();
        let given = match &config.file {
            Some(file) => format!("--config {}", file.display()),
            None => format!("--data {}", config.data.display()),
        };
        text.push_str(&format!("See it copied to the zones {}:  registry status {given}\n", names.join(", ")));
    }
    text.push_str("Stop with Ctrl-C.\n");
    text
}
