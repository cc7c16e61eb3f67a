//! Lists show, and mounts give, what the caller may pull.

use registry_core::Digest;

use super::kit::{Kit, PASSWORD, basic};

async fn names(kit: &Kit, credentials: &str, query: &str) -> (Vec<String>, Option<String>) {
    let answer = kit.ask(credentials, "GET", &format!("/v2/_catalog{query}"), "").await;
    let names =
        answer.assert(200).json()["repositories"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    (names, answer.maybe("link").map(str::to_owned))
}

#[tokio::test]
async fn the_catalog_has_what_the_caller_may_pull_page_by_page() {
    let kit = Kit::new();
    for repository in ["a", "public/one", "public/two", "secret/app", "team/a", "team/b", "team/c", "z"] {
        kit.image(repository).await;
    }
    let reader = basic("reader", PASSWORD);
    let all = ["public/one", "public/two", "team/a", "team/b", "team/c"];
    assert_eq!(names(&kit, &reader, "").await, (all.map(str::to_owned).to_vec(), None));
    // Each page is full, and no name of another's is in the link to the next.
    let (mut seen, mut query) = (Vec::new(), "?n=2".to_owned());
    loop {
        let (page, link) = names(&kit, &reader, &query).await;
        seen.extend(page.clone());
        let Some(link) = link else { break };
        assert_eq!(page.len(), 2);
        assert!(!link.contains("secret"), "{link}");
        query = link.split(['?', '>']).nth(1).map(|query| format!("?{query}")).unwrap();
    }
    assert_eq!(seen, all);
    assert_eq!(names(&kit, &reader, "?n=0").await, (vec![], None));
    let nobody = kit.token("", "registry:catalog:*").await;
    assert_eq!(names(&kit, &nobody, "").await.0, ["public/one", "public/two"]);
}

#[tokio::test]
async fn among_thousands_of_others_the_own_are_found() {
    let kit = Kit::new();
    for n in 0..2_500 {
        kit.image(&format!("other/{n:04}")).await;
    }
    kit.image("team/last").await;
    kit.image("public/first").await;
    assert_eq!(names(&kit, &basic("writer", PASSWORD), "?n=2").await, (vec!["public/first".to_owned(), "team/last".to_owned()], None));
}

async fn mount(kit: &Kit, credentials: &str, digest: &Digest, from: &str) -> u16 {
    let from = if from.is_empty() { String::new() } else { format!("&from={from}") };
    let answer = kit.ask(credentials, "POST", &format!("/v2/team/mine/blobs/uploads/?mount={digest}{from}"), "").await;
    if answer.status == 202 {
        // As if nothing had been asked: an upload has begun.
        assert!(answer.header("location").starts_with("/v2/team/mine/blobs/uploads/"));
        kit.ask(credentials, "HEAD", &format!("/v2/team/mine/blobs/{digest}"), "").await.assert(404);
    }
    answer.status.as_u16()
}

#[tokio::test]
async fn what_may_not_be_pulled_cannot_be_mounted() {
    let kit = Kit::new();
    let secret = kit.open.push("secret/app", "secret bytes").await;
    let shared = kit.open.push("team/theirs", "shared bytes").await;
    let writer = basic("writer", PASSWORD);
    assert_eq!(mount(&kit, &writer, &secret, "secret/app").await, 202);
    assert_eq!(mount(&kit, &writer, &secret, "secret/none").await, 202, "the same whether it is there or not");
    assert_eq!(mount(&kit, &writer, &secret, "").await, 202, "nor from wherever it is");
    assert_eq!(mount(&kit, &writer, &secret, "team/theirs").await, 202, "which does not hold it");
    assert_eq!(mount(&kit, &writer, &shared, "").await, 202);
    assert_eq!(mount(&kit, &writer, &shared, "team/theirs").await, 201);
    // A token has to be for both.
    let one = kit.token(&writer, "repository:team/mine:pull,push").await;
    let both = kit.token(&writer, "repository:team/mine:pull,push repository:team/theirs:pull").await;
    let other = kit.open.push("team/theirs", "other bytes").await;
    assert_eq!(mount(&kit, &one, &other, "team/theirs").await, 202);
    assert_eq!(mount(&kit, &both, &other, "team/theirs").await, 201);
    // And a repository that does not hold a blob does not give it away.
    kit.ask(&writer, "GET", &format!("/v2/team/mine/blobs/{secret}"), "").await.assert(404);
}
