//! The other examples do what their documentation says.

use crate::http::push_blob;
use crate::process::{Server, command};

#[tokio::test]
async fn embed_serves_its_own_page_and_a_registry() {
    let dir = tempfile::tempdir().unwrap();
    let mut embed = command("embed");
    embed.current_dir(dir.path()).arg("127.0.0.1:0");
    let server = Server::spawn(embed, dir.path());
    let client = server.client();
    assert_eq!(client.get("/").await.expect(200).text(), "the service's own page\n");
    client.get("/v2/").await.expect(200);
    let digest = push_blob(&client, "team/app", b"content").await.unwrap();
    assert_eq!(client.get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200).body, b"content");
}

#[tokio::test]
async fn custom_backend_passes_the_suite_and_serves() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = command("custom_backend");
    backend.current_dir(dir.path()).arg("127.0.0.1:0");
    let server = Server::spawn(backend, dir.path());
    assert!(server.welcome.contains("cases passed") && server.welcome.contains(" 0 failed"), "{}", server.welcome);
    let client = server.client();
    let content = vec![7; 3 << 20];
    let digest = push_blob(&client, "team/app", &content).await.unwrap();
    assert_eq!(client.get(&format!("/v2/team/app/blobs/{digest}")).await.expect(200).body, content);
}

#[test]
fn custom_backend_is_short() {
    let text = include_str!("../../custom_backend.rs");
    assert!(text.lines().count() <= 150, "{} lines", text.lines().count());
}
