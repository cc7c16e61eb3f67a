//! Tag lists and the catalog.

use registry_http::HttpOptions;
use serde_json::json;

use crate::support::images::{IMAGE, bytes, image, push_tagged};
use crate::support::{Answer, Fixture};

/// The target of the `Link`.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.maybe("link")?;
    let target = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\""));
    Some(target.unwrap_or_else(|| panic!("{link} is a link to the next page")).to_owned())
}

async fn tagged(fixture: &Fixture, repository: &str, tags: &[&str]) {
    let manifest = bytes(&image(fixture, repository, "x").await);
    for tag in tags {
        fixture.put_manifest(&format!("/v2/{repository}/manifests/{tag}"), IMAGE, manifest.clone()).await.assert(201);
    }
}

#[tokio::test]
async fn tags_are_listed_in_lexical_order() {
    let fixture = Fixture::new();
    tagged(&fixture, "team/app", &["b", "a10", "a9", "B", "_x", "1.0"]).await;
    let answer = fixture.get_and_head("/v2/team/app/tags/list").await;
    assert_eq!(answer.assert(200).header("content-type"), "application/json");
    assert_eq!(answer.json(), json!({ "name": "team/app", "tags": ["1.0", "B", "_x", "a10", "a9", "b"] }));
    assert_eq!(next(&answer), None);
}

#[tokio::test]
async fn pages_of_tags_follow_each_other_by_link_until_there_are_no_more() {
    let fixture = Fixture::new();
    tagged(&fixture, "a/b", &["t1", "t2", "t3", "t4", "t5"]).await;
    let first = fixture.get("/v2/a/b/tags/list?n=2").await;
    assert_eq!(first.json()["tags"], json!(["t1", "t2"]));
    assert_eq!(next(&first).as_deref(), Some("/v2/a/b/tags/list?n=2&last=t2"));
    let second = fixture.get(&next(&first).unwrap()).await;
    assert_eq!(second.json()["tags"], json!(["t3", "t4"]));
    let third = fixture.get(&next(&second).unwrap()).await;
    assert_eq!(third.json()["tags"], json!(["t5"]));
    assert_eq!(next(&third), None);
    let exact = fixture.get("/v2/a/b/tags/list?n=5").await;
    assert_eq!(next(&exact), None, "a full page that is the last has no link");
}

#[tokio::test]
async fn last_is_exclusive_need_not_exist_and_is_usable_alone() {
    let fixture = Fixture::new();
    tagged(&fixture, "a", &["t1", "t2", "t4"]).await;
    for (query, tags) in [
        ("last=t1", json!(["t2", "t4"])),
        ("last=t3", json!(["t4"])),
        ("last=t4", json!([])),
        ("last=", json!(["t1", "t2", "t4"])),
        ("last=%C3%A4", json!([])),
        ("n=1&last=t1", json!(["t2"])),
    ] {
        assert_eq!(fixture.get(&format!("/v2/a/tags/list?{query}")).await.assert(200).json()["tags"], tags, "{query}");
    }
}

#[tokio::test]
async fn n_zero_is_an_empty_list_without_a_link() {
    let fixture = Fixture::new();
    tagged(&fixture, "a", &["t1", "t2"]).await;
    for uri in ["/v2/a/tags/list?n=0", "/v2/a/tags/list?n=0&last=t1"] {
        let answer = fixture.get(uri).await;
        assert_eq!(answer.assert(200).json(), json!({ "name": "a", "tags": [] }));
        assert_eq!(next(&answer), None);
    }
    let catalog = fixture.get("/v2/_catalog?n=0").await;
    assert_eq!(catalog.assert(200).json(), json!({ "repositories": [] }));
    assert_eq!(next(&catalog), None);
    fixture.get("/v2/none/tags/list?n=0").await.assert_error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn an_n_that_is_no_number_is_400() {
    let fixture = Fixture::new();
    tagged(&fixture, "a", &["t1"]).await;
    for n in ["-1", "x", "1.5", "%2B1", "0x10", "1&n=2"] {
        fixture.get(&format!("/v2/a/tags/list?n={n}")).await.assert_error(400, "UNSUPPORTED");
        fixture.get(&format!("/v2/_catalog?n={n}")).await.assert_error(400, "UNSUPPORTED");
    }
    fixture.get("/v2/a/tags/list?n=%zz").await.assert(400);
    fixture.get("/v2/a/tags/list?n=99999999999999999999").await.assert(200);
}

#[tokio::test]
async fn a_last_that_nothing_could_be_called_is_400() {
    let fixture = Fixture::new();
    tagged(&fixture, "a", &["t1"]).await;
    let digest = registry_core::Digest::sha256(b"x");
    for text in ["%00", "a%00b", "%0A", "%1b", "%7F"] {
        for uri in [
            format!("/v2/a/tags/list?last={text}"),
            format!("/v2/_catalog?n=5&last={text}"),
            format!("/v2/a/referrers/{digest}?artifactType={text}"),
        ] {
            fixture.get(&uri).await.assert_error(400, "UNSUPPORTED");
        }
        fixture.get(&format!("/v2/a/referrers/{digest}?last={text}")).await.assert_error(400, "DIGEST_INVALID");
    }
}

#[tokio::test]
async fn long_lists_are_cut_at_the_server_s_own_limit_and_linked() {
    let fixture = Fixture::with(HttpOptions::default().with_page_sizes(2, 3));
    tagged(&fixture, "a", &["t1", "t2", "t3", "t4"]).await;
    let unasked = fixture.get("/v2/a/tags/list").await;
    assert_eq!(unasked.json()["tags"], json!(["t1", "t2"]));
    assert_eq!(next(&unasked).as_deref(), Some("/v2/a/tags/list?n=2&last=t2"));
    let much = fixture.get("/v2/a/tags/list?n=100").await;
    assert_eq!(much.json()["tags"], json!(["t1", "t2", "t3"]));
    assert_eq!(next(&much).as_deref(), Some("/v2/a/tags/list?n=3&last=t3"));
}

#[tokio::test]
async fn the_tags_of_an_unknown_repository_are_404() {
    let fixture = Fixture::new();
    fixture.get_and_head("/v2/none/tags/list").await.assert_error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_repository_without_tags_has_an_empty_list_and_never_null() {
    let fixture = Fixture::new();
    let manifest = bytes(&image(&fixture, "a", "x").await);
    let digest = registry_core::Digest::sha256(&manifest);
    fixture.put_manifest(&format!("/v2/a/manifests/{digest}"), IMAGE, manifest).await.assert(201);
    assert_eq!(fixture.get("/v2/a/tags/list").await.assert(200).body, r#"{"name":"a","tags":[]}"#);
}

#[tokio::test]
async fn the_catalog_lists_repositories_in_pages() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get_and_head("/v2/_catalog").await.assert(200).body, r#"{"repositories":[]}"#);
    for name in ["b/x", "a", "c"] {
        push_tagged(&fixture, name, "t").await;
    }
    assert_eq!(fixture.get("/v2/_catalog").await.json(), json!({ "repositories": ["a", "b/x", "c"] }));
    let first = fixture.get("/v2/_catalog?n=2").await;
    assert_eq!(first.json()["repositories"], json!(["a", "b/x"]));
    assert_eq!(next(&first).as_deref(), Some("/v2/_catalog?n=2&last=b%2Fx"));
    let second = fixture.get(&next(&first).unwrap()).await;
    assert_eq!(second.json()["repositories"], json!(["c"]));
    assert_eq!(next(&second), None);
}
