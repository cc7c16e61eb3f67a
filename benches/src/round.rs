//! The rounds: which loads are applied to which server, in what order.

use std::time::Duration;

use crate::content::Content;
use crate::load::{self, Extent, Kind, LARGE, measure};
use crate::report::{Report, Row};
use crate::server::{self, Server};
use crate::{Arguments, Result, usage};

const CLIENTS: usize = 16;

/// All rounds of all servers.
pub(crate) async fn all(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let servers = match (&arguments.running, arguments.server.as_slice()) {
        (Some(_), _) => vec![server::Kind::Running],
        (None, []) => server::Kind::COMPARED.to_vec(),
        (None, chosen) => chosen.to_vec(),
    };
    if servers.contains(&server::Kind::DockerRegistry) {
        let version = server::docker_registry_version().await.ok_or("docker-registry is not installed: scripts/bench installs it")?;
        report.note(format!("docker-registry is Debian's, {version}. Neither server logs requests."));
    }
    let large = Content::new(LARGE);
    for round in 1..=arguments.rounds {
        for &kind in &servers {
            eprintln!("round {round} of {}: {kind}", arguments.rounds);
            one(kind, arguments, &large, report).await?;
        }
    }
    if wanted(arguments, Kind::Memory) {
        for &kind in &servers {
            eprintln!("memory: {kind}");
            memory(kind, arguments, report).await?;
        }
    }
    Ok(())
}

fn wanted(arguments: &Arguments, kind: Kind) -> bool {
    arguments.only.is_empty() || arguments.only.contains(&kind)
}

/// Every load but the one for memory, each on a fresh server: what one leaves behind is not the next one's burden.
async fn one(kind: server::Kind, arguments: &Arguments, large: &Content, report: &mut Report) -> Result<()> {
    let part = if arguments.quick { 4 } else { 1 };
    let lasting = |seconds: u64| Extent::Lasting(Duration::from_millis(seconds * 1000 / part));
    if wanted(arguments, Kind::Pull) {
        let server = Server::start(kind, arguments).await?;
        let pull = load::pull::Pull::prepare(&server, large).await?;
        report.add(kind, Row::PullOne, measure(&server, 1, lasting(4), pull.clone()).await?);
        report.add(kind, Row::PullMany, measure(&server, CLIENTS, lasting(4), pull).await?);
        server.stop().await?;
    }
    if wanted(arguments, Kind::Push) {
        let server = Server::start(kind, arguments).await?;
        report.add(kind, Row::PushOne, measure(&server, 1, Extent::Each(32 / part), load::push::Push(large.clone())).await?);
        report.add(kind, Row::PushMany, measure(&server, CLIENTS, Extent::Each(4 / part), load::push::Push(large.clone())).await?);
        server.stop().await?;
    }
    if wanted(arguments, Kind::Manifest) {
        let server = Server::start(kind, arguments).await?;
        let manifest = load::manifest::ManifestByTag::prepare(&server).await?;
        report.add(kind, Row::Manifest, measure(&server, 64, lasting(4), manifest).await?);
        server.stop().await?;
    }
    if wanted(arguments, Kind::Small) {
        let server = Server::start(kind, arguments).await?;
        let small = load::small::Small(Content::new(4096));
        report.add(kind, Row::Small, measure(&server, CLIENTS, lasting(6), small).await?);
        server.stop().await?;
    }
    if wanted(arguments, Kind::Tags) {
        let server = Server::start(kind, arguments).await?;
        let (tags, pages) = load::tags::TagPage::prepare(&server).await?;
        if !pages {
            report.note(format!("{kind} ignores `n` and `last`: it sends all 10,000 tags each time."));
        }
        report.add(kind, Row::Tags, measure(&server, 1, lasting(3), tags).await?);
        server.stop().await?;
    }
    Ok(())
}

/// The most memory resident while 16 clients push one large blob each.
async fn memory(kind: server::Kind, arguments: &Arguments, report: &mut Report) -> Result<()> {
    let mut size = arguments.memory_mib << 20;
    // All of them stay in memory until the server is stopped.
    let room = usage::available_memory()?.saturating_sub(3 << 30) / (CLIENTS as u64);
    if room < size && arguments.folder.starts_with("/dev/shm") {
        size = room.max(LARGE);
        report.note(format!("Memory was watched with blobs of {} MiB: there is no room for larger ones.", size >> 20));
    }
    let server = Server::start(kind, arguments).await?;
    let before = usage::peak_memory(server.pid)?;
    benches::push::at_once(server.address, CLIENTS as u64, &Content::new(size)).await?;
    report.memory(kind, before, usage::peak_memory(server.pid)?);
    server.stop().await
}
