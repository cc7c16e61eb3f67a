//! Two servers over one directory of blobs and one database.

use std::time::Duration;

use registry_core::Digest;
use registry_core::testing::Rng;
use rustix::process::Signal;

use crate::http::{Client, begin_upload, push_blob};
use crate::process::Server;
use crate::tools::seed;

fn pair(dir: &std::path::Path) -> [Server; 2] {
    let data = dir.join("data");
    [Server::start(&data, &[]), Server::start(&data, &[])]
}

async fn patch(client: &Client, location: &str, start: usize, part: &[u8]) -> u16 {
    let range = format!("{start}-{}", start + part.len() - 1);
    client.send("PATCH", location, &[("Content-Range", &range)], part).await.status
}

#[tokio::test]
async fn they_take_turns_on_one_upload() {
    let dir = tempfile::tempdir().unwrap();
    let servers = pair(dir.path());
    let content = Rng::new(1).bytes(5_000_001);
    for algorithm in ["sha256", "sha512"] {
        let location = begin_upload(&servers[0].client(), "app").await.unwrap();
        let mut offset = 0;
        for (n, part) in content.chunks(613_000).enumerate() {
            let client = servers[n % 2].client();
            assert_eq!(patch(&client, &location, offset, part).await, 202);
            offset += part.len();
            for server in &servers {
                assert_eq!(server.client().get(&location).await.expect(204).offset(), offset as u64);
            }
        }
        let digest = Digest::of(algorithm.parse().unwrap(), &content);
        servers[1].client().send("PUT", &format!("{location}?digest={digest}"), &[], b"").await.expect(201);
        for server in &servers {
            assert_eq!(server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body, content);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_racing_parts_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let servers = pair(dir.path());
    let mut rng = Rng::new(seed("of_two_racing_parts_exactly_one_wins"));
    let first = rng.bytes(700_000);
    for round in 0..20 {
        // Every other race is for the first byte.
        let start = if round % 2 == 0 { 0 } else { first.len() };
        let location = begin_upload(&servers[0].client(), "app").await.unwrap();
        if start > 0 {
            assert_eq!(patch(&servers[0].client(), &location, 0, &first).await, 202);
        }
        // Of the same length, so that nothing but the bytes tells whose they are.
        let len = 200_000 + usize::try_from(rng.below(600_000)).unwrap();
        let parts = [rng.bytes(len), rng.bytes(len)];
        let race = |n: usize, pause: u64, cut: usize| {
            let (client, location, part) = (servers[n].client(), location.clone(), parts[n].clone());
            async move {
                let range = format!("{start}-{}", start + part.len() - 1);
                let mut patch = client.begin("PATCH", &location, &[("Content-Range", &range)], Some(part.len() as u64)).await.unwrap();
                patch.write(&part[..cut]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(pause)).await;
                patch.write(&part[cut..]).await.unwrap();
                patch.finish("PATCH").await.unwrap().status
            }
        };
        let cut = usize::try_from(rng.below(len as u64)).unwrap();
        let (a, b) = tokio::join!(race(0, rng.below(20), cut), race(1, rng.below(20), cut / 2));
        let winner = match (a, b) {
            (202, 416) => 0,
            (416, 202) => 1,
            other => panic!("round {round}: {other:?}"),
        };
        let client = servers[round % 2].client();
        assert_eq!(client.get(&location).await.expect(204).offset(), (start + len) as u64);
        let content = [&first[..start], &parts[winner]].concat();
        let digest = Digest::sha256(&content);
        client.send("PUT", &format!("{location}?digest={digest}"), &[], b"").await.expect(201);
        let stored = servers[(round + 1) % 2].client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
        assert!(stored.body == content, "round {round}: other bytes than the winner's");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_racing_ends_none_makes_a_wrong_blob_and_the_client_is_told_how_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let servers = pair(dir.path());
    let mut rng = Rng::new(seed("of_two_racing_ends_none_makes_a_wrong_blob_and_the_client_is_told_how_it_stands"));
    for _ in 0..20 {
        let content = rng.bytes(900_000);
        let digest = Digest::sha256(&content);
        let location = begin_upload(&servers[0].client(), "app").await.unwrap();
        assert_eq!(patch(&servers[0].client(), &location, 0, &content).await, 202);
        let end = |n: usize| {
            let (client, path) = (servers[n].client(), format!("{location}?digest={digest}"));
            async move { client.send("PUT", &path, &[], b"").await.status }
        };
        let answers: [u16; 2] = tokio::join!(end(0), end(1)).into();
        assert!(answers.iter().all(|status| matches!(status, 201 | 404 | 416 | 503)), "{answers:?}");
        if !answers.contains(&201) {
            // The one was overtaken when its bytes had become the blob, and the other found them gone: the client begins again.
            assert!(answers.contains(&404), "{answers:?}");
            push_blob(&servers[0].client(), "app", &content).await.unwrap();
        }
        let stored = servers[1].client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
        assert!(stored.body == content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stalled_writer_sends_late_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let servers = pair(dir.path());
    let (stalled, other) = (&servers[0], &servers[1]);
    for (round, first) in [0, 1_500_000].into_iter().enumerate() {
        let mut rng = Rng::new(round as u64);
        let (begun, late, right) = (rng.bytes(first), rng.bytes(2_000_000), rng.bytes(2_000_000));
        let location = begin_upload(&stalled.client(), "app").await.unwrap();
        if first > 0 {
            assert_eq!(patch(&stalled.client(), &location, 0, &begun).await, 202);
        }
        let range = format!("{first}-{}", first + late.len() - 1);
        let mut part = stalled.client().begin("PATCH", &location, &[("Content-Range", &range)], Some(late.len() as u64)).await.unwrap();
        part.write(&late[..1_200_000]).await.unwrap();
        // Long enough for the server to have taken it in and to wait for more.
        tokio::time::sleep(Duration::from_millis(300)).await;
        stalled.signal(Signal::STOP);

        // The client gives up on that server and goes on at the other.
        let client = other.client();
        assert_eq!(client.get(&location).await.expect(204).offset(), first as u64);
        assert_eq!(patch(&client, &location, first, &right).await, 202);
        let content = [begun, right].concat();
        let digest = Digest::sha256(&content);
        client.send("PUT", &format!("{location}?digest={digest}"), &[], b"").await.expect(201);

        stalled.signal(Signal::CONT);
        part.write(&late[1_200_000..]).await.unwrap();
        let answer = part.finish("PATCH").await.unwrap();
        assert!(matches!(answer.status, 404 | 416), "{} {}", answer.status, answer.text());
        for server in &servers {
            let stored = server.client().get(&format!("/v2/app/blobs/{digest}")).await.expect(200);
            assert!(stored.body == content, "the late part got in");
        }
        let wrong = Digest::sha256(&[&content[..first], &late].concat());
        client.get(&format!("/v2/app/blobs/{wrong}")).await.expect(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_at_the_other_server_when_one_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = pair(dir.path());
    let content = Rng::new(9).bytes(3_000_000);
    let location = begin_upload(&servers[0].client(), "app").await.unwrap();
    assert_eq!(patch(&servers[0].client(), &location, 0, &content[..1_000_000]).await, 202);
    let mut part = servers[0].client().begin("PATCH", &location, &[], Some(2_000_000)).await.unwrap();
    part.write(&content[1_000_000..1_900_000]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    servers[0].kill();
    let client = servers[1].client();
    assert_eq!(client.get(&location).await.expect(204).offset(), 1_000_000);
    assert_eq!(patch(&client, &location, 1_000_000, &content[1_000_000..]).await, 202);
    let digest = Digest::sha256(&content);
    client.send("PUT", &format!("{location}?digest={digest}"), &[], b"").await.expect(201);
    assert!(client.get(&format!("/v2/app/blobs/{digest}")).await.expect(200).body == content);
}
