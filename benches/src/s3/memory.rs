//! How much memory it takes: this process, and a registry.

use std::time::Instant;

use benches::content::Content;
use benches::daemon::{self, Daemon};
use benches::measure::{Result, mib};
use benches::turns::Cpu;
use benches::{peaks as peak, push, usage};

use crate::Arguments;
use crate::service::Service;

const CLIENTS: u64 = 16;

/// Sends and reads blobs of growing size.
pub(crate) async fn peaks(arguments: &Arguments, service: &Service) -> Result<()> {
    peak::measure(&*service.store("memory").await?, arguments.sizes_of_memory()).await
}

/// Pushes large blobs to a registry with a zone in the bucket, all at once.
pub(crate) async fn registry(arguments: &Arguments, service: &Service) -> Result<()> {
    let content = Content::new(arguments.push << 20);
    let upload_memory = &arguments.upload_memory;
    let storage_path = service.storage_path("registry");
    let registry = Daemon::start(&arguments.folder, |address, data| {
        let config = data.join("registry.toml");
        let Service { bucket, endpoint, access_key, secret_key, .. } = service;
        let text = format!(
            "upload_memory = \"{upload_memory}\"\n[[zone]]\nname = \"s3\"\ntype = \"s3\"\nbucket = \"{bucket}\"\nstorage_path = \"{storage_path}\"\n\
             endpoint = \"{endpoint}\"\naccess_key = \"{access_key}\"\nsecret_key = \"{secret_key}\"\n"
        );
        std::fs::write(&config, text)?;
        let mut command = daemon::registry(&arguments.program, address, data);
        command.arg("--config").arg(config);
        Ok(command)
    });
    let registry = registry.await?;
    let memory = usage::peak_memory(registry.pid)?;
    let (cpu, others) = (usage::Cpu::of(registry.pid)?, Cpu::now(&service.processes)?);
    let start = Instant::now();
    push::at_once(registry.address, CLIENTS, &content).await?;
    let seconds = start.elapsed().as_secs_f64();
    let (cpu, others) = (usage::Cpu::of(registry.pid)?.since(&cpu), Cpu::now(&service.processes)?.since(others));
    let gigabytes = (CLIENTS * content.size()) as f64 / 1e9;
    println!(
        "| pushed to a registry at once, `upload_memory` {upload_memory} | its peak RSS, MiB | seconds | MB/s, all | registry, CPU s/GB | clients, CPU s/GB | {}, CPU s/GB |\n|---|---|---|---|---|---|---|",
        service.name
    );
    println!(
        "| {CLIENTS} blobs of {} MiB | {:.0} ({:.0} before) | {seconds:.1} | {:.0} | {:.2} | {:.2} | {:.2} |\n",
        arguments.push,
        mib(usage::peak_memory(registry.pid)?),
        mib(memory),
        gigabytes * 1e3 / seconds,
        cpu.as_secs_f64() / gigabytes,
        others.client / gigabytes,
        others.service / gigabytes,
    );
    registry.stop().await
}
