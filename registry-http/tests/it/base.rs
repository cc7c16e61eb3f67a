//! The base, what is no resource, what has no such method, and what every answer has.

use registry_http::HttpOptions;

use crate::support::Fixture;

#[tokio::test]
async fn the_base_says_that_this_is_a_registry() {
    let fixture = Fixture::new();
    for uri in ["/v2/", "/v2"] {
        let answer = fixture.get_and_head(uri).await;
        answer.assert(200);
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.body, "{}");
    }
}

#[tokio::test]
async fn an_unknown_resource_is_404_with_the_spec_s_error_body() {
    let fixture = Fixture::new();
    for uri in ["/v2/a", "/v2/a/b/c", "/v2/tags/list", "/v2/a/tags/lists", "/v2/_catalog/", "/v2/a/blobs/", "/v2//"] {
        fixture.get(uri).await.assert_error(404, "UNSUPPORTED");
        fixture.request("PUT", uri).send().await.assert_error(404, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn a_method_that_a_resource_does_not_have_is_405_and_says_which_it_has() {
    let fixture = Fixture::new();
    let digest = fixture.push("a", "x").await;
    let cases = [
        ("POST", "/v2/".to_owned(), "GET, HEAD"),
        ("DELETE", "/v2/_catalog".to_owned(), "GET, HEAD"),
        ("PUT", "/v2/a/tags/list".to_owned(), "GET, HEAD"),
        ("DELETE", format!("/v2/a/referrers/{digest}"), "GET, HEAD"),
        ("POST", "/v2/a/manifests/x".to_owned(), "GET, HEAD, PUT, DELETE"),
        ("PUT", format!("/v2/a/blobs/{digest}"), "GET, HEAD, DELETE"),
        ("GET", "/v2/a/blobs/uploads/".to_owned(), "POST"),
        ("POST", "/v2/a/blobs/uploads/0123".to_owned(), "GET, HEAD, PATCH, PUT, DELETE"),
        ("OPTIONS", "/v2/".to_owned(), "GET, HEAD"),
        ("BREW", "/v2/".to_owned(), "GET, HEAD"),
    ];
    for (method, uri, allow) in cases {
        let answer = fixture.request(method, &uri).send().await;
        answer.assert_error(405, "UNSUPPORTED");
        assert_eq!(answer.header("allow"), allow, "{method} {uri}");
    }
}

#[tokio::test]
async fn a_read_only_registry_serves_pulls_and_answers_pushes_with_405() {
    let writable = Fixture::new();
    let digest = writable.push("a", "x").await;
    let read_only = registry_core::Registry::builder(
        std::sync::Arc::clone(writable.registry.blobs()),
        std::sync::Arc::clone(writable.registry.metadata()),
    );
    let registry = read_only.read_only(true).build();
    let fixture =
        Fixture { router: registry_http::router(registry.clone(), HttpOptions::default()), registry, faults: writable.faults.clone() };
    assert_eq!(fixture.get_and_head(&format!("/v2/a/blobs/{digest}")).await.assert(200).body, "x");
    let cases = [
        ("POST", "/v2/a/blobs/uploads/".to_owned(), ""),
        ("POST", format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), ""),
        ("PATCH", "/v2/a/blobs/uploads/0123".to_owned(), "GET, HEAD"),
        ("PUT", format!("/v2/a/blobs/uploads/0123?digest={digest}"), "GET, HEAD"),
        ("DELETE", "/v2/a/blobs/uploads/0123".to_owned(), "GET, HEAD"),
        ("DELETE", format!("/v2/a/blobs/{digest}"), "GET, HEAD"),
        ("PUT", "/v2/a/manifests/x".to_owned(), "GET, HEAD"),
        ("DELETE", "/v2/a/manifests/x".to_owned(), "GET, HEAD"),
    ];
    for (method, uri, allow) in cases {
        let answer = fixture.request(method, &uri).send().await;
        answer.assert_error(405, "UNSUPPORTED");
        assert_eq!(answer.header("allow"), allow, "{method} {uri}");
        assert_eq!(answer.json()["errors"][0]["message"], "the registry is read-only");
    }
    fixture.get(&format!("/v2/a/blobs/{digest}")).await.assert(200);
}

#[tokio::test]
async fn malformed_names_are_400_whatever_is_done_with_them() {
    let fixture = Fixture::new();
    let digest = registry_core::Digest::sha256(b"x");
    let long = "a/".repeat(127) + "aa";
    for name in ["A", "a/../b", "..", "a//b", "-a", "a_", "a___b", "a%2Fb", "%2e%2e", "a%00", "a%zz", "ä", &long] {
        let name = if name.is_ascii() { name.to_owned() } else { "%C3%A4".to_owned() };
        for (method, rest) in [
            ("GET", "tags/list".to_owned()),
            ("GET", format!("blobs/{digest}")),
            ("DELETE", format!("blobs/{digest}")),
            ("GET", "manifests/latest".to_owned()),
            ("PUT", "manifests/latest".to_owned()),
            ("GET", format!("referrers/{digest}")),
            ("POST", "blobs/uploads/".to_owned()),
            ("PATCH", "blobs/uploads/0123".to_owned()),
        ] {
            fixture.request(method, &format!("/v2/{name}/{rest}")).send().await.assert_error(400, "NAME_INVALID");
        }
    }
    assert_eq!(fixture.get("/v2/_catalog").await.json()["repositories"], serde_json::json!([]));
}

#[tokio::test]
async fn names_of_any_depth_and_of_the_api_s_own_words_are_repositories() {
    let fixture = Fixture::new();
    let deep = ["p"; 100].join("/");
    for name in [deep.as_str(), "blobs/uploads", "manifests", "tags/list", "v2/v2", "a.b/c__d/e-f"] {
        let digest = crate::support::images::push_tagged(&fixture, name, "latest").await;
        let answer = fixture.get_and_head(&format!("/v2/{name}/manifests/latest")).await;
        assert_eq!(answer.assert(200).header("docker-content-digest"), digest.to_string());
        assert_eq!(fixture.get(&format!("/v2/{name}/tags/list")).await.json()["tags"], serde_json::json!(["latest"]));
    }
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made() {
    let fixture = Fixture::new();
    let mine = fixture.request("GET", "/v2/").header("x-request-id", "my-id-7").send().await;
    assert_eq!(mine.header("x-request-id"), "my-id-7");
    let other = fixture.request("GET", "/v2/").header("x-request-id", "no good").send().await;
    assert_ne!(other.header("x-request-id"), "no good");
    assert_ne!(other.header("x-request-id"), fixture.get("/v2/").await.header("x-request-id"));
}

#[tokio::test]
async fn warnings_are_shown_with_every_answer() {
    let fixture = Fixture::with(HttpOptions::default().with_warning("moving on \"Monday\"").with_warning("second"));
    for uri in ["/v2/", "/v2/none/tags/list"] {
        let answer = fixture.get(uri).await;
        let warnings: Vec<_> = answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(warnings, ["299 - \"moving on \\\"Monday\\\"\"", "299 - \"second\""]);
    }
    assert_eq!(Fixture::new().get("/v2/").await.maybe("warning"), None);
}

#[tokio::test]
async fn a_pull_on_behalf_of_a_known_upstream_registry_says_so() {
    let fixture = Fixture::with(HttpOptions::default().with_namespaces(["docker.io".to_owned()]));
    let digest = fixture.push("library/alpine", "x").await;
    let answer = fixture.get_and_head(&format!("/v2/library/alpine/blobs/{digest}?ns=docker.io")).await;
    assert_eq!(answer.assert(200).header("oci-namespace"), "docker.io");
    let unknown = fixture.get(&format!("/v2/library/alpine/blobs/{digest}?ns=ghcr.io")).await;
    assert_eq!(unknown.assert(200).maybe("oci-namespace"), None);
    let plain = fixture.again(HttpOptions::default());
    let passed_over = plain.get(&format!("/v2/library/alpine/blobs/{digest}?ns=docker.io")).await;
    assert_eq!(passed_over.assert(200).maybe("oci-namespace"), None);
}

#[tokio::test]
async fn beyond_the_limit_of_requests_in_flight_it_is_429_with_retry_after() {
    let fixture = Fixture::with(HttpOptions::default().with_max_in_flight(1));
    let body = axum::body::Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::convert::Infallible>>());
    let mut waiting = Box::pin(fixture.request("PUT", "/v2/a/manifests/x").body(body).send());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(20), &mut waiting).await.is_err());
    let answer = fixture.get("/v2/").await;
    answer.assert_error(429, "TOOMANYREQUESTS");
    assert_eq!(answer.header("retry-after"), "1");
    drop(waiting);
    fixture.get("/v2/").await.assert(200);
}

#[tokio::test]
async fn the_router_nests_in_another_service() {
    let fixture = Fixture::with(HttpOptions::default().with_path_prefix("/registry/".parse().unwrap()));
    let digest = fixture.push("a", "x").await;
    let host = axum::Router::new().route("/", axum::routing::get(|| async { "host" })).nest("/registry", fixture.router.clone());
    let nested =
        Fixture { router: host.fallback(|| async { "fallback" }), registry: fixture.registry.clone(), faults: fixture.faults.clone() };
    assert_eq!(nested.get("/").await.body, "host");
    assert_eq!(nested.get("/elsewhere").await.body, "fallback");
    assert_eq!(nested.get(&format!("/registry/v2/a/blobs/{digest}")).await.assert(200).body, "x");
    let location = nested.request("POST", "/registry/v2/a/blobs/uploads/").send().await.assert(202).header("location").to_owned();
    assert!(location.starts_with("/registry/v2/a/blobs/uploads/"), "{location}");
    nested.get(&location).await.assert(204);
}
