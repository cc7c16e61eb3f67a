//! Uploads belong to who began them.

use registry_core::Digest;

use super::kit::{Kit, PASSWORD, basic};

#[tokio::test]
async fn an_upload_is_there_for_who_began_it_only() {
    let kit = Kit::new();
    let (writer, admin) = (basic("writer", PASSWORD), basic("admin", PASSWORD));
    let begun = kit.ask(&writer, "POST", "/v2/team/app/blobs/uploads/", "").await;
    let location = begun.assert(202).header("location").to_owned();
    kit.ask(&writer, "PATCH", &location, "hello").await.assert(202);
    for (method, query) in [("GET", ""), ("PATCH", ""), ("PUT", "?digest="), ("DELETE", "")] {
        let query = if query.is_empty() { String::new() } else { format!("{query}{}", Digest::sha256(b"hello")) };
        let answer = kit.ask(&admin, method, &format!("{location}{query}"), "").await;
        answer.assert_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    let elsewhere = location.replace("team/app", "team/other");
    kit.ask(&writer, "GET", &elsewhere, "").await.assert(404);
    // By another token, and in another process, it is the same user.
    let token = kit.token(&writer, "repository:team/app:push").await;
    assert_eq!(kit.ask(&token, "GET", &location, "").await.assert(204).header("range"), "0-4");
    kit.ask(&token, "PUT", &format!("{location}?digest={}", Digest::sha256(b"hello")), "").await.assert(201);
}
