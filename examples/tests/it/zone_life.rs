//! Zones that are cordoned, drained and removed, while clients push and pull and whatever is at work is killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use registry_core::Digest;
use registry_core::testing::Rng;
use serde_json::Value;

use crate::http::{Client, push_blob};
use crate::process::{Server, command, registry, texts};
use crate::tools::{large, seed};
use crate::zones::{blobs, eventually, push_image};

pub(crate) const ZONES: [&str; 3] = ["boston", "leo", "tokyo"];

/// A configuration of three zones in a folder.
pub(crate) fn configuration(dir: &Path, zones: &[&str]) -> PathBuf {
    let zone = |name: &&str| format!("[[zone]]\nname = \"{name}\"\npath = \"{}\"\n", dir.join(name).display());
    let zones: String = zones.iter().map(zone).collect();
    let times = "[replication]\nnarrow_after = \"1s\"\npoll_interval = \"200ms\"\nprobe_interval = \"300ms\"\nlease = \"3s\"\nkeep_unknown = \"1s\"\n";
    let path = dir.join(format!("registry-{}.toml", registry_core::random_id()));
    std::fs::write(&path, format!("data = \"{}\"\nlog = \"info\"\n{zones}{times}", dir.join("data").display())).unwrap();
    path
}

pub(crate) fn serve(dir: &Path, config: &Path) -> Server {
    let mut command = command("registry");
    command.args(["--listen", "127.0.0.1:0", "--config"]).arg(config);
    Server::spawn(command, dir)
}

#[track_caller]
pub(crate) fn told(dir: &Path, config: &Path, args: &[&str]) -> String {
    let output = registry(dir, &[&["--config", config.to_str().unwrap()], args].concat());
    let (text, errors) = texts(&output);
    assert!(output.status.success(), "{args:?}: {text}{errors}");
    text
}

/// What a command says that cannot do what it should.
#[track_caller]
fn refused(dir: &Path, config: &Path, args: &[&str]) -> String {
    let output = registry(dir, &[&["--config", config.to_str().unwrap()], args].concat());
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    texts(&output).1
}

#[track_caller]
pub(crate) fn status(dir: &Path, config: &Path) -> Value {
    serde_json::from_str(&told(dir, config, &["status", "--json"])).unwrap()
}

fn states(status: &Value) -> Vec<&str> {
    status["zones"].as_array().unwrap().iter().map(|zone| zone["state"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_cordoned_drained_and_removed_beside_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let config = configuration(dir, &ZONES);
    let mut server = serve(dir, &config);
    let client = server.client();
    for number in 0..10 {
        push_image(&client, "team/app", &format!("v{number}"), &Rng::new(number).bytes(20_000)).await;
    }
    let [boston, leo, tokyo] = ZONES.map(|zone| dir.join(zone));
    eventually("all is everywhere", || [&boston, &leo, &tokyo].iter().all(|zone| blobs(zone).len() == 21));

    assert!(told(dir, &config, &["zone", "cordon", "boston"]).contains("registry zone uncordon boston"));
    assert_eq!(states(&status(dir, &config)), ["cordoned", "active", "active"]);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let digest = push_blob(&client, "team/app", b"elsewhere").await.unwrap();
    eventually("it is in the others", || blobs(&leo).len() == 22 && blobs(&tokyo).len() == 22);
    assert_eq!(blobs(&boston).len(), 21);
    client.get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200);
    let text = told(dir, &config, &["status"]);
    assert!(text.lines().any(|line| line.starts_with("boston") && line.contains("cordoned")), "{text}");
    told(dir, &config, &["zone", "uncordon", "boston"]);
    eventually("it is owed no longer", || blobs(&boston).len() == 22);

    let hint = refused(dir, &config, &["zone", "remove", "boston"]);
    assert!(hint.contains("cannot remove boston: ") && hint.contains("the zone is active: drain it first"), "{hint}");
    assert!(refused(dir, &config, &["zone", "drain", "nowhere"]).contains("the zones are boston, leo, tokyo"));
    let drained = told(dir, &config, &["zone", "drain", "boston"]);
    assert!(drained.ends_with(" blobs (100 %), done\n"), "{drained}");
    assert_eq!(blobs(&boston).len(), 0);
    assert_eq!((blobs(&leo).len(), blobs(&tokyo).len()), (22, 22));
    for number in 0..10 {
        client.get(&format!("/v2/team/app/manifests/v{number}")).await.expect(200);
    }
    let removed: Value = serde_json::from_str(&told(dir, &config, &["zone", "remove", "boston", "--json"])).unwrap();
    assert_eq!((&removed["kind"], &removed["state"]), (&"remove".into(), &"done".into()), "{removed}");
    assert!(told(dir, &config, &["zone", "remove", "boston"]).contains("none of the registry's zones any more"));
    push_image(&client, "team/app", "after", b"after").await;
    server.stop();
    // A server that is started with the old configuration makes nothing of it.
    let mut server = serve(dir, &config);
    push_image(&server.client(), "team/app", "again", b"again").await;
    server.client().get("/v2/team/app/manifests/v3").await.expect(200);
    assert_eq!(blobs(&boston).len(), 0);
    assert!(server.log().contains("this zone was removed from the registry"), "{}", server.log());
    // The place can be used again, as a new zone.
    let hint = refused(dir, &config, &["zone", "add", "boston"]);
    assert!(
        hint.contains("this zone was removed from the registry")
            && hint.contains("delete the object _meta/zone in it to begin with it anew"),
        "{hint}"
    );
    assert!(refused(dir, &config, &["validate", "boston"]).contains("zone boston: open: this zone was removed from the registry"));
    std::fs::remove_file(boston.join("_meta/zone")).unwrap();
    let filled = told(dir, &config, &["zone", "add", "boston"]);
    assert!(filled.contains("fill boston: ") && filled.ends_with(" blobs (100 %), done\n"), "{filled}");
    assert_eq!(blobs(&boston).into_keys().collect::<Vec<_>>(), blobs(&leo).into_keys().collect::<Vec<_>>());
    assert_eq!(states(&status(dir, &config)), ["active"; 3]);
    told(dir, &config, &["zone", "drain", "boston"]);
    told(dir, &config, &["zone", "remove", "boston"]);
    server.stop();
    let without = configuration(dir, &ZONES[1..]);
    let server = serve(dir, &without);
    for tag in ["v0", "v9", "after", "again"] {
        server.client().get(&format!("/v2/team/app/manifests/{tag}")).await.expect(200);
    }
    assert_eq!(states(&status(dir, &without)), ["active", "active"]);
    assert!(!server.log().contains("not configured any more"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_would_leave_a_policy_without_zones_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let config = configuration(dir, &ZONES);
    let policy = "[[policy]]\nrepositories = \"eu/**\"\nzones = [\"leo\"]\n";
    std::fs::write(&config, format!("{}{policy}", std::fs::read_to_string(&config).unwrap())).unwrap();
    let _server = serve(dir, &config);
    let text = refused(dir, &config, &["zone", "drain", "leo"]);
    assert!(text.contains("the policy for eu/** wants its blobs in no other zone"), "{text}");
    assert_eq!(states(&status(dir, &config)), ["active"; 3]);
}

/// What clients were told that is there.
type Acknowledged = Arc<Mutex<Vec<(Digest, Vec<u8>)>>>;

/// The blobs of which no zone has the right bytes.
fn lost(dir: &Path, acknowledged: &Acknowledged) -> Vec<Digest> {
    let known: Vec<_> = acknowledged.lock().unwrap().iter().map(|(digest, _)| *digest).collect();
    let is_good = |digest: &Digest| {
        let file = |zone: &&str| dir.join(zone).join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
        ZONES.iter().any(|zone| std::fs::read(file(zone)).is_ok_and(|bytes| Digest::sha256(&bytes) == *digest))
    };
    // One that was just deleted here, after it came back there, where it was looked for before.
    let mut missing: Vec<_> = known.into_iter().filter(|digest| !is_good(digest)).collect();
    for _ in 0..3 {
        missing.retain(|digest| !is_good(digest));
    }
    missing
}

/// Pushes and pulls until it is told to stop. A server that is killed meanwhile is the only excuse.
async fn work(address: Arc<Mutex<String>>, alive: Arc<AtomicBool>, acknowledged: Acknowledged, stop: Arc<AtomicBool>, seed: u64) {
    let mut rng = Rng::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let (was_alive, here) = (alive.load(Ordering::SeqCst), address.lock().unwrap().clone());
        let client = Client::new(&here);
        let excused = || !was_alive || !alive.load(Ordering::SeqCst) || *address.lock().unwrap() != here;
        let known = acknowledged.lock().unwrap().clone();
        let result = if known.is_empty() || rng.chance(0.2) {
            let len = 500 + usize::try_from(rng.below(5_000)).unwrap();
            let content = rng.bytes(len);
            match push_blob(&client, "team/app", &content).await {
                Ok(digest) => {
                    acknowledged.lock().unwrap().push((digest, content));
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            }
        } else {
            let (digest, content) = &known[usize::try_from(rng.below(known.len() as u64)).unwrap()];
            match client.try_send("GET", &format!("/v2/team/app/blobs/{digest}"), &[], b"").await {
                Ok(answer) if answer.status == 200 && answer.body == *content => Ok(()),
                Ok(answer) => Err(format!("{digest}: {} {}", answer.status, answer.text())),
                Err(error) => Err(error.to_string()),
            }
        };
        if let Err(error) = result {
            assert!(excused(), "{error}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A command that is at work, and may be killed at it.
pub(crate) fn begin(config: &Path, args: &[&str]) -> Child {
    let mut command = command("registry");
    command.arg("--config").arg(config).args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

pub(crate) fn kill_after(mut child: Child, pause: Duration) {
    std::thread::sleep(pause);
    let _ = child.kill();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_a_drain_comes_to_its_end_and_no_blob_is_ever_without_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let config = configuration(dir, &ZONES);
    let mut server = serve(dir, &config);
    let (acknowledged, stop) = (Acknowledged::default(), Arc::new(AtomicBool::new(false)));
    let (address, alive) = (Arc::new(Mutex::new(server.address.clone())), Arc::new(AtomicBool::new(true)));
    let seed = seed("zone_life");
    let mut rng = Rng::new(seed);
    for number in 0..60 {
        let content = Rng::new(seed ^ number).bytes(1_000 + usize::try_from(number).unwrap());
        let digest = push_blob(&server.client(), "team/app", &content).await.unwrap();
        acknowledged.lock().unwrap().push((digest, content));
    }
    let clients: Vec<_> = (0..3)
        .map(|client| {
            let (address, alive) = (Arc::clone(&address), Arc::clone(&alive));
            tokio::spawn(work(address, alive, Arc::clone(&acknowledged), Arc::clone(&stop), seed ^ (client + 1) << 32))
        })
        .collect();
    let watcher = {
        let (dir, acknowledged, stop) = (dir.to_owned(), Arc::clone(&acknowledged), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut looks = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(lost(&dir, &acknowledged), [], "after {looks} looks");
                looks += 1;
            }
            looks
        })
    };
    for round in 0..if large() { 20 } else { 4 } {
        let zone = ZONES[usize::try_from(rng.below(3)).unwrap()];
        let pause = |rng: &mut Rng| Duration::from_millis(rng.below(2_500));
        // Begun and called off, begun and killed, with the server or without.
        if rng.chance(0.3) {
            kill_after(begin(&config, &["zone", "drain", zone]), pause(&mut rng));
            kill_after(begin(&config, &["zone", "uncordon", zone]), Duration::from_millis(rng.below(100)));
        }
        kill_after(begin(&config, &["zone", "drain", zone]), pause(&mut rng));
        if rng.chance(0.5) {
            alive.store(false, Ordering::SeqCst);
            server.kill();
            server = serve(dir, &config);
            *address.lock().unwrap() = server.address.clone();
            alive.store(true, Ordering::SeqCst);
        }
        let start = Instant::now();
        let told = told(dir, &config, &["zone", "drain", zone]);
        assert!(told.contains(", done"), "{told}");
        eprintln!("round {round}: {zone} was drained {:?} after the last kill", start.elapsed());
        assert_eq!(blobs(&dir.join(zone)).len(), 0, "round {round}: {zone}");
        kill_after(begin(&config, &["zone", "uncordon", zone]), Duration::from_millis(rng.below(100)));
        self::told(dir, &config, &["zone", "uncordon", zone]);
    }
    eventually("everything is everywhere", || {
        let count = acknowledged.lock().unwrap().len();
        ZONES.iter().all(|zone| blobs(&dir.join(zone)).len() >= count)
    });
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let looks = watcher.join().unwrap();
    assert!(looks > 100, "it was looked {looks} times");
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    for (digest, content) in acknowledged {
        assert_eq!(server.client().get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200).body, content);
    }
    assert!(server.log().contains("copied a blob") || status(dir, &config)["zones"][0]["blobs"].as_u64().unwrap() >= 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_a_new_zone_is_filled_and_no_blob_is_ever_without_a_copy() {
    const BLOBS: u64 = 600;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let two = configuration(dir, &ZONES[..2]);
    let mut server = serve(dir, &two);
    let (acknowledged, stop) = (Acknowledged::default(), Arc::new(AtomicBool::new(false)));
    let seed = seed("zone_life");
    let mut rng = Rng::new(seed);
    for number in 0..BLOBS {
        let content = Rng::new(seed ^ number).bytes(2_000);
        let digest = push_blob(&server.client(), "team/app", &content).await.unwrap();
        acknowledged.lock().unwrap().push((digest, content));
    }
    server.stop();
    let hint = refused(dir, &two, &["zone", "add", "tokyo"]);
    assert!(hint.contains("there is no zone tokyo") && hint.contains("the zones are boston, leo"), "{hint}");
    // At 80 KiB/s, with what is pushed meanwhile, it takes some twenty seconds.
    let three = configuration(dir, &ZONES);
    let text = std::fs::read_to_string(&three).unwrap();
    std::fs::write(&three, text.replace("name = \"tokyo\"", "name = \"tokyo\"\nwrite_limit = \"160KiB\"")).unwrap();
    let tokyo = dir.join("tokyo");
    // Without a server the command does the work.
    kill_after(begin(&three, &["zone", "add", "tokyo"]), Duration::from_millis(1500));
    assert!((1..600).contains(&blobs(&tokyo).len()), "{}", blobs(&tokyo).len());
    let mut server = serve(dir, &three);
    let (address, alive) = (Arc::new(Mutex::new(server.address.clone())), Arc::new(AtomicBool::new(true)));
    let client = work(Arc::clone(&address), Arc::clone(&alive), Arc::clone(&acknowledged), Arc::clone(&stop), seed ^ 1 << 32);
    let client = tokio::spawn(client);
    let watcher = {
        let (dir, acknowledged, stop) = (dir.to_owned(), Arc::clone(&acknowledged), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(lost(&dir, &acknowledged), []);
            }
        })
    };
    let mut halfway = 0;
    for _ in 0..20 {
        kill_after(begin(&three, &["zone", "add", "tokyo"]), Duration::from_millis(rng.below(900)));
        if rng.chance(0.5) {
            alive.store(false, Ordering::SeqCst);
            server.kill();
            server = serve(dir, &three);
            *address.lock().unwrap() = server.address.clone();
            alive.store(true, Ordering::SeqCst);
        }
        halfway += u32::from(blobs(&tokyo).len() < 600);
    }
    assert!(halfway >= 5, "it was met {halfway} times halfway");
    let filled = told(dir, &three, &["zone", "add", "tokyo"]);
    assert!(filled.contains(" blobs (100 %), done"), "{filled}");
    stop.store(true, Ordering::Relaxed);
    client.await.unwrap();
    watcher.join().unwrap();
    let expected: BTreeMap<_, _> = acknowledged.lock().unwrap().iter().map(|(digest, content)| (digest.hex(), content.clone())).collect();
    eventually("what was pushed last is there too", || blobs(&tokyo).len() >= expected.len());
    assert!(expected.iter().all(|(digest, content)| blobs(&tokyo).get(digest) == Some(content)));
    let jobs = status(dir, &three)["jobs"].clone();
    let fills = jobs.as_array().unwrap().iter().filter(|job| job["kind"] == "fill" && job["state"] == "open").count();
    assert_eq!(fills, 0, "{jobs}");
}

/// All of a folder, elsewhere.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_it_is_killed_a_zone_is_removed_or_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let before = folder.path().join("before");
    std::fs::create_dir(&before).unwrap();
    let config = configuration(&before, &ZONES);
    let mut server = serve(folder.path(), &config);
    let mut digests = Vec::new();
    for number in 0..200 {
        digests.push(push_blob(&server.client(), "team/app", &Rng::new(number).bytes(300)).await.unwrap());
    }
    told(&before, &config, &["zone", "drain", "leo"]);
    server.stop();
    let mut rng = Rng::new(seed("zone_life"));
    for round in 0..20 {
        let dir = folder.path().join(format!("round-{round}"));
        copy(&before, &dir);
        let config = configuration(&dir, &ZONES);
        kill_after(begin(&config, &["zone", "remove", "leo"]), Duration::from_millis(rng.below(250)));
        told(&dir, &config, &["zone", "remove", "leo"]);
        let after = configuration(&dir, &["boston", "tokyo"]);
        let status = status(&dir, &after);
        assert_eq!((&status["blobs"], states(&status)), (&200.into(), vec!["active", "active"]), "round {round}: {status}");
        assert_eq!(status["jobs"], Value::Array(Vec::new()), "round {round}");
        if round % 5 == 0 {
            let server = serve(&dir, &after);
            for digest in &digests {
                server.client().get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200);
            }
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}

/// What servers are asked, as a load balancer knows it: one that is to stop is taken out first.
type Pool = Arc<Mutex<Vec<String>>>;

/// Pulls until it is told to stop, from whichever server is in the pool; there is no excuse.
async fn pull(pool: Pool, blobs: Arc<Vec<(Digest, Vec<u8>)>>, stop: Arc<AtomicBool>, seed: u64) -> u32 {
    let (mut rng, mut pulls) = (Rng::new(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        let address = {
            let pool = pool.lock().unwrap();
            pool[usize::try_from(rng.below(pool.len() as u64)).unwrap()].clone()
        };
        let (digest, content) = &blobs[usize::try_from(rng.below(blobs.len() as u64)).unwrap()];
        let answer = Client::new(&address).get(&format!("/v2/team/app/blobs/{digest}")).await;
        assert!(answer.status == 200 && answer.body == *content, "{digest} from {address}: {} {}", answer.status, answer.text());
        pulls += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pulls
}

/// Starts each server anew with another configuration, one after the other.
async fn roll(dir: &Path, servers: &mut [Server], pool: &Pool, config: &Path) {
    for server in servers {
        pool.lock().unwrap().retain(|address| *address != server.address);
        // What was asked for just before is answered.
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.stop();
        *server = serve(dir, config);
        pool.lock().unwrap().push(server.address.clone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_added_and_the_first_one_leaves_while_pulls_go_on() {
    const BLOBS: u64 = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let two = configuration(dir, &ZONES[..2]);
    let mut servers = [serve(dir, &two), serve(dir, &two)];
    let pool: Pool = Arc::new(Mutex::new(servers.iter().map(|server| server.address.clone()).collect()));
    let mut pushes = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let client = servers[usize::from(writer % 2 == 1)].client();
        pushes.spawn(async move {
            let mut pushed = Vec::new();
            for number in (writer..BLOBS).step_by(4) {
                let content = Rng::new(70_000 + number).bytes(200 + usize::try_from(number).unwrap());
                pushed.push((push_blob(&client, "team/app", &content).await.unwrap(), content));
            }
            pushed
        });
    }
    let pushed: Arc<Vec<_>> = Arc::new(pushes.join_all().await.into_iter().flatten().collect());
    let [boston, leo, tokyo] = ZONES.map(|zone| dir.join(zone));
    let count = usize::try_from(BLOBS).unwrap();
    eventually("all is in both", || blobs(&boston).len() == count && blobs(&leo).len() == count);
    let stop = Arc::new(AtomicBool::new(false));
    let pulls: Vec<_> = (0..3).map(|seed| tokio::spawn(pull(Arc::clone(&pool), Arc::clone(&pushed), Arc::clone(&stop), seed))).collect();

    let three = configuration(dir, &ZONES);
    roll(dir, &mut servers, &pool, &three).await;
    let filled = told(dir, &three, &["zone", "add", "tokyo"]);
    assert!(filled.ends_with(&format!("fill tokyo: {count} of {count} blobs (100 %), done\n")), "{filled}");
    assert_eq!(blobs(&tokyo).len(), count);

    // Whatever has left the first is in both others, and right.
    let watcher = {
        let (pushed, stop, dir) = (Arc::clone(&pushed), Arc::clone(&stop), dir.to_owned());
        std::thread::spawn(move || {
            let file = |zone: &str, digest: &Digest| dir.join(zone).join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
            let (mut looks, mut left) = (0_u32, 0);
            while !stop.load(Ordering::Relaxed) {
                left = 0;
                for (digest, content) in pushed.iter().filter(|(digest, _)| !file("boston", digest).exists()) {
                    left += 1;
                    for zone in ["leo", "tokyo"] {
                        assert!(
                            std::fs::read(file(zone, digest)).is_ok_and(|bytes| bytes == *content),
                            "{digest} left boston and is not in {zone}"
                        );
                    }
                }
                looks += 1;
            }
            (looks, left)
        })
    };
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let drained = told(dir, &three, &["zone", "drain", "boston"]);
    assert!(drained.ends_with(" blobs (100 %), done\n"), "{drained}");
    assert_eq!(blobs(&boston).len(), 0);
    told(dir, &three, &["zone", "remove", "boston"]);
    let without = configuration(dir, &ZONES[1..]);
    roll(dir, &mut servers, &pool, &without).await;
    stop.store(true, Ordering::Relaxed);
    for pull in pulls {
        let pulls = pull.await.unwrap();
        assert!(pulls > 100, "{pulls}");
    }
    let (looks, left) = watcher.join().unwrap();
    assert!(looks > 10 && left == count, "it was looked {looks} times, and {left} had left");
    let expected: BTreeMap<_, _> = pushed.iter().map(|(digest, content)| (digest.hex(), content.clone())).collect();
    assert!(blobs(&tokyo) == expected && blobs(&leo) == expected, "both are as they were pushed");
    assert_eq!(states(&status(dir, &without)), ["active", "active"]);
}
