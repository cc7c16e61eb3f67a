//! A large image there and back by skopeo.

use crate::clients::{assert_same, copy};
use crate::image::Layout;
use crate::process::Server;
use crate::tools::{have, large};

/// 689 MB in 11 layers, one of them 320 MB.
const LAYERS: [usize; 11] =
    [320_000_000, 120_000_000, 90_000_000, 60_000_000, 40_000_000, 25_000_000, 15_000_000, 10_000_000, 5_000_000, 3_000_000, 1_000_000];

#[tokio::test]
async fn an_image_of_689_mb_in_11_layers_goes_there_and_back_byte_for_byte() {
    assert_eq!(LAYERS.iter().sum::<usize>(), 689_000_000);
    if !large() {
        println!("SKIPPED a large image: set REGISTRY_TEST_LARGE=1");
        return;
    }
    if !have("skopeo") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &["--admin", "127.0.0.1:0"]);
    let (source, back) = (dir.path().join("source"), dir.path().join("back"));
    let mut layout = Layout::new(&source);
    layout.add_image("v1", 42, &LAYERS);
    layout.finish();
    let remote = format!("docker://{}/large:v1", server.address);
    copy(&format!("oci:{}:v1", source.display()), &remote);
    copy(&remote, &format!("oci:{}:v1", back.display()));
    let metrics = server.admin().get("/metrics").await.expect(200).text();
    let resident = metrics.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes ")?.parse::<f64>().ok()).unwrap();
    println!("the server's memory after a push and a pull of 689 MB: {:.0} MiB", resident / f64::from(1 << 20));
    assert!(resident < f64::from(200 << 20), "memory grows with what is pushed: {resident} bytes");
    assert_same(&source, &back);
}
