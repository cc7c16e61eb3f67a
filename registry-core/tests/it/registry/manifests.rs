//! Manifests, indexes, tags and referrers.

use super::*;

#[tokio::test]
async fn a_manifest_that_names_what_is_not_there_is_refused_and_changes_nothing() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let (config, missing) = (push(&registry, &name, b"{}").await, Digest::sha256(b"missing"));
    let error = put(&registry, &name, &by_tag("v1"), image(&config, &[missing], "")).await.unwrap_err();
    assert_eq!((error.kind(), error.digests()), (ErrorKind::ManifestBlobUnknown, &[missing][..]));
    assert_eq!(registry.manifest(&name, &by_tag("v1")).await.unwrap_err().kind(), ErrorKind::ManifestUnknown);
    let foreign = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"{missing}","size":1,"urls":["https://example.com"]}}]}}"#,
        media_type::OCI_MANIFEST
    );
    put(&registry, &name, &by_tag("v1"), foreign.into()).await.unwrap();
}

#[tokio::test]
async fn an_index_needs_its_manifests_unless_sparse_ones_are_allowed() {
    let fixture = Fixture::new();
    let (registry, name, child) = (fixture.registry(), repo("a"), Digest::sha256(b"child"));
    let index = |child: &Digest| {
        Bytes::from(format!(
            r#"{{"schemaVersion":2,"mediaType":"{0}","manifests":[{{"mediaType":"{0}","digest":"{child}","size":1}}]}}"#,
            media_type::OCI_INDEX
        ))
    };
    assert_eq!(put(&registry, &name, &by_tag("i"), index(&child)).await.unwrap_err().kind(), ErrorKind::ManifestBlobUnknown);
    let empty = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::OCI_INDEX);
    let empty = put(&registry, &name, &by_tag("empty"), empty.into()).await.unwrap();
    put(&registry, &name, &by_tag("nested"), index(&empty)).await.unwrap();
    let sparse = fixture.builder().sparse_indexes(true).build();
    put(&sparse, &name, &by_tag("i"), index(&child)).await.unwrap();
}

#[tokio::test]
async fn manifests_that_contradict_themselves_are_refused() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let config = push(&registry, &name, b"{}").await;
    let good = image(&config, &[], "");
    let refused = |content_type: Option<&'static str>, bytes: Bytes| {
        let (registry, name) = (registry.clone(), name.clone());
        async move { registry.put_manifest(&name, &by_tag("x"), content_type, bytes, vec![]).await.unwrap_err().kind() }
    };
    assert_eq!(refused(Some(media_type::OCI_INDEX), good.clone()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(None, "{}".into()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(None, "[]".into()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(Some(media_type::DOCKER_V1), r#"{"schemaVersion":1}"#.into()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(Some("application/json"), r#"{"schemaVersion":1,"fsLayers":[]}"#.into()).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(None, image(&config, &[], r#","manifests":[]"#)).await, ErrorKind::ManifestInvalid);
    assert_eq!(refused(None, vec![b' '; (4 << 20) + 1].into()).await, ErrorKind::TooLarge);
    let wrong = Reference::Digest(Digest::sha256(b"other"));
    assert_eq!(put(&registry, &name, &wrong, good.clone()).await.unwrap_err().kind(), ErrorKind::DigestInvalid);
    let pushed =
        registry.put_manifest(&name, &by_tag("x"), Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"), good, vec![]).await;
    assert!(pushed.is_ok(), "parameters of a content type do not matter: {pushed:?}");
}

#[tokio::test]
async fn what_an_artifact_or_a_build_cache_refers_to_is_required_and_kept() {
    let fixture = Fixture::new();
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let (registry, name) = (fixture.registry(), repo("a"));
    let (blob, missing) = (push(&registry, &name, b"signature").await, Digest::sha256(b"missing"));
    let artifact = |digest: &Digest| {
        let media_type = "application/vnd.oci.artifact.manifest.v1+json";
        Bytes::from(format!(r#"{{"mediaType":"{media_type}","blobs":[{{"mediaType":"a/b","digest":"{digest}","size":9}}]}}"#))
    };
    let cache = |digest: &Digest| {
        let media_type = "application/vnd.buildkit.cacheconfig.v0";
        let index = media_type::OCI_INDEX;
        Bytes::from(format!(
            r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[{{"mediaType":"{media_type}","digest":"{digest}","size":9}}]}}"#
        ))
    };
    for (tag, refused, good) in [("artifact", artifact(&missing), artifact(&blob)), ("cache", cache(&missing), cache(&blob))] {
        assert_eq!(put(&registry, &name, &by_tag(tag), refused).await.unwrap_err().digests(), [missing]);
        put(&registry, &name, &by_tag(tag), good).await.unwrap();
    }
    fixture.clock.advance(hours(48));
    registry.collect_garbage(&GcOptions::default()).await.unwrap();
    fixture.clock.advance(hours(2));
    registry.collect_garbage(&GcOptions::default()).await.unwrap();
    assert!(registry.blob(&name, &blob, None).await.is_ok());
    let shapeless = Bytes::from_static(br#"{"mediaType":"application/x","files":[]}"#);
    assert_eq!(put(&registry, &name, &by_tag("x"), shapeless).await.unwrap_err().kind(), ErrorKind::ManifestInvalid);
    for media_type in ["", "x", r"x\u0000y/z", r"x/y\r\nX-Evil: 1", "x/é", "a/b/c"] {
        let bytes = Bytes::from(format!(r#"{{"mediaType":"{media_type}","layers":[]}}"#));
        assert_eq!(put(&registry, &name, &by_tag("x"), bytes).await.unwrap_err().kind(), ErrorKind::ManifestInvalid, "{media_type}");
    }
    let bytes = Bytes::from_static(br#"{"mediaType":"a/b","artifactType":"x\u0000y","layers":[]}"#);
    assert_eq!(put(&registry, &name, &by_tag("x"), bytes).await.unwrap_err().kind(), ErrorKind::ManifestInvalid);
}

#[tokio::test]
async fn a_page_of_referrers_never_passes_four_mebibytes_of_json() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let (config, subject) = (push(&registry, &name, b"{}").await, Digest::sha256(b"subject"));
    let mut expected = Vec::new();
    for n in 0..24 {
        // A control character is one byte in memory and six in JSON.
        let text = if n % 2 == 0 { "\\u0001".repeat(150_000) } else { "small".to_owned() };
        let more = format!(r#","subject":{{"digest":"{subject}","size":1}},"annotations":{{"n":"{n}","text":"{text}"}}"#);
        expected.push(put(&registry, &name, &by_tag("t"), image(&config, &[], &more)).await.unwrap());
    }
    expected.sort();
    let mut query = ReferrersQuery { repository: name, subject, artifact_type: None, after: None, limit: 1_000 };
    let mut seen = Vec::new();
    loop {
        let page = registry.referrers(&query).await.unwrap();
        let json: usize = page.items.iter().map(|item| serde_json::to_vec(&item.annotations).unwrap().len()).sum();
        assert!(json < 4 << 20 && !page.items.is_empty());
        seen.extend(page.items.iter().map(|item| item.digest));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn control_characters_in_what_is_looked_for_are_refused() {
    let fixture = Fixture::new();
    let (registry, page) = (fixture.registry(), Page { after: Some("a\0".to_owned()), limit: 5 });
    push(&registry, &repo("a"), b"x").await;
    assert_eq!(registry.tags(&repo("a"), &page).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(registry.repositories(&page).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let artifact_type = Some("x\0y".to_owned());
    let query = ReferrersQuery { repository: repo("a"), subject: Digest::sha256(b""), artifact_type, after: None, limit: 5 };
    assert_eq!(registry.referrers(&query).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_manifest_of_nearly_four_mebibytes_is_kept_byte_for_byte() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let config = push(&registry, &name, b"{}").await;
    let bytes = image(&config, &[], &format!(r#","annotations":{{"x":"{}"}}"#, "y".repeat(3_900_000)));
    put(&registry, &name, &by_tag("big"), bytes.clone()).await.unwrap();
    assert_eq!(registry.manifest(&name, &by_tag("big")).await.unwrap().bytes, bytes);
}

#[tokio::test]
async fn referrers_tell_what_refers_to_a_manifest_even_before_it_exists() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let (config, subject) = (push(&registry, &name, b"{}").await, Digest::sha256(b"not there"));
    let mut expected = Vec::new();
    for (n, artifact) in ["application/x", "application/y", ""].into_iter().enumerate() {
        let artifact = if artifact.is_empty() { String::new() } else { format!(r#","artifactType":"{artifact}""#) };
        let more = format!(r#"{artifact},"subject":{{"digest":"{subject}","size":1}},"annotations":{{"n":"{n}"}}"#);
        let pushed = registry.put_manifest(&name, &by_tag("t"), None, image(&config, &[], &more), vec![]).await.unwrap();
        assert_eq!(pushed.subject, Some(subject));
        expected.push(pushed.digest);
    }
    let query = |artifact_type: Option<&str>, after, limit| ReferrersQuery {
        repository: name.clone(),
        subject,
        artifact_type: artifact_type.map(str::to_owned),
        after,
        limit,
    };
    let image_type = registry.referrers(&query(Some("application/vnd.oci.image.config.v1+json"), None, 9)).await.unwrap();
    assert_eq!(image_type.items.iter().map(|r| r.digest).collect::<Vec<_>>(), [expected[2]]);
    expected.sort();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = registry.referrers(&query(None, after, 2)).await.unwrap();
        seen.extend(page.items.iter().map(|r| r.digest));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
    let other = ReferrersQuery { repository: repo("unknown"), ..query(None, None, 5) };
    assert!(registry.referrers(&other).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_deleted_manifest_takes_its_tags_along_and_a_deleted_tag_leaves_the_manifest() {
    let fixture = Fixture::new();
    let (registry, name) = (fixture.registry(), repo("a"));
    let config = push(&registry, &name, b"{}").await;
    let tags: Vec<Tag> = ["b", "c", "a"].map(|t| t.parse().unwrap()).to_vec();
    let pushed = registry.put_manifest(&name, &by_tag("a"), None, image(&config, &[], ""), tags).await.unwrap();
    assert_eq!(pushed.tags.len(), 3);
    registry.delete_manifest(&name, &by_tag("b")).await.unwrap();
    let list = || async { registry.tags(&name, &Page { after: None, limit: 10 }).await.unwrap() };
    assert_eq!(list().await.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "c"]);
    registry.delete_manifest(&name, &Reference::Digest(pushed.digest)).await.unwrap();
    assert!(list().await.is_empty());
    assert_eq!(registry.manifest(&name, &by_tag("a")).await.unwrap_err().kind(), ErrorKind::ManifestUnknown);
    for reference in [by_tag("a"), Reference::Digest(pushed.digest)] {
        assert_eq!(registry.delete_manifest(&name, &reference).await.unwrap_err().kind(), ErrorKind::ManifestUnknown);
    }
    assert_eq!(registry.tags(&repo("no"), &Page { after: None, limit: 1 }).await.unwrap_err().kind(), ErrorKind::RepositoryUnknown);
}
