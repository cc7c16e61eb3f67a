//! `registry serve`.

use std::net::SocketAddr;
use std::time::Duration;

use registry_http::{HttpOptions, ServeOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::print;
use crate::admin::{self, Metrics};
use crate::config::Config;
use crate::failure::Failure;
use crate::stores::{Purpose, Stores};
use crate::{collector, replicator, signals};

/// Serves until a signal says to stop.
pub(crate) async fn run(config: &Config) -> Result<(), Failure> {
    let metrics = Metrics::start()?;
    // The addresses first: whoever starts a second server by mistake learns it before anything is touched.
    let listener = bind("listen", "--listen", &config.listen).await?;
    let admin = match &config.admin {
        Some(address) => Some(bind("admin", "--admin", address).await?),
        None => None,
    };
    let address = local(&listener)?;
    let admin_address = admin.as_ref().map(local).transpose()?;
    let stop = signals::stop_token()?;
    let stores = Stores::open(config, Purpose::Serve).await?;
    let registry = stores.registry(config);
    let workers = match &stores.zones {
        Some(zones) => Some(replicator::start(zones, &*stores.metadata, &config.data).await?),
        None => None,
    };

    print(&welcome(config, address, admin_address))?;
    tracing::info!(%address, data = %config.data.display(), read_only = config.read_only, admin = admin_address.map(tracing::field::display), "serving");
    let ended = CancellationToken::new();
    let serving = async {
        let router = registry_http::router(registry.clone(), http_options(config));
        let served = registry_http::serve(listener, router, stop.clone().cancelled_owned(), serve_options(config)).await;
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
    let mut text = format!("The registry serves on http://{address} and keeps its data in {}.\n\n", config.data.display());
    if config.read_only {
        text.push_str(&format!(
            "It is read-only. Pull an image with one of:\n  \
               skopeo copy --src-tls-verify=false docker://{address}/NAME:TAG oci:image\n  \
               podman pull --tls-verify=false {address}/NAME:TAG\n\n"
        ));
    } else {
        text.push_str(&format!(
            "Push a first image with one of:\n  \
               skopeo copy --dest-tls-verify=false docker://docker.io/library/alpine docker://{address}/alpine\n  \
               skopeo copy --dest-tls-verify=false docker-archive:image.tar docker://{address}/my/image:v1\n  \
               podman push --tls-verify=false alpine {address}/alpine\n  \
               docker tag alpine {address}/alpine && docker push {address}/alpine\n\n"
        ));
    }
    if let Some(admin) = admin {
        text.push_str(&format!("Health and metrics:  http://{admin}/healthz, /readyz, /metrics\n"));
    }
    text.push_str(&format!("See what is there:  curl http://{address}/v2/_catalog\n"));
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
