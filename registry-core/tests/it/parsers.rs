//! Every parser of the core, against generated input.

use proptest::prelude::*;
use registry_core::blob::{ByteRange, check_object_name};
use registry_core::manifest::ParsedManifest;
use registry_core::{Algorithm, Digest, ErrorKind, Hasher, Reference, RepositoryName, Tag, UploadToken};

fn digest() -> impl Strategy<Value = Digest> {
    (any::<bool>(), proptest::collection::vec(any::<u8>(), 64)).prop_map(|(long, bytes)| {
        let (algorithm, len) = if long { (Algorithm::Sha512, 64) } else { (Algorithm::Sha256, 32) };
        Digest::from_bytes(algorithm, &bytes[..len]).unwrap()
    })
}

/// The grammar of the distribution-spec, word for word, as a slow reference.
fn is_repository_name(s: &str) -> bool {
    fn component(part: &str) -> bool {
        let mut rest = part;
        loop {
            let word = rest.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).unwrap_or(rest.len());
            if word == 0 {
                return false;
            }
            rest = &rest[word..];
            if rest.is_empty() {
                return true;
            }
            let separator = rest.find(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).unwrap_or(rest.len());
            let (sep, tail) = rest.split_at(separator);
            if !(matches!(sep, "." | "_" | "__") || sep.chars().all(|c| c == '-')) {
                return false;
            }
            rest = tail;
        }
    }
    s.len() <= 255 && s.split('/').all(component)
}

proptest! {
    #[test]
    fn a_digest_reads_back_as_itself(digest in digest()) {
        prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        prop_assert_eq!(digest.hex().len(), digest.as_bytes().len() * 2);
    }

    #[test]
    fn digests_sort_like_their_text(a in digest(), b in digest()) {
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn whatever_parses_as_a_digest_is_its_own_text(s in "(sha256|sha512|md5|SHA256|)(:|::|)[0-9a-fA-Fg/.]{0,130}") {
        if let Ok(digest) = s.parse::<Digest>() {
            prop_assert_eq!(digest.to_string(), s);
        }
    }

    #[test]
    fn a_digest_with_one_character_changed_is_another_or_none(digest in digest(), at in any::<prop::sample::Index>(), c in any::<char>()) {
        let text = digest.to_string();
        let at = at.index(text.len());
        let changed = format!("{}{c}{}", &text[..at], &text[at + 1..]);
        prop_assert!(changed == text || changed.parse() != Ok(digest));
    }

    #[test]
    fn repository_names_are_those_of_the_specification(s in "[a-c0-9A./_-]{0,24}") {
        prop_assert_eq!(s.parse::<RepositoryName>().is_ok(), is_repository_name(&s), "{}", s);
    }

    #[test]
    fn no_text_makes_the_name_parsers_panic_or_change_it(s in "\\PC{0,300}") {
        if let Ok(name) = s.parse::<RepositoryName>() {
            prop_assert!(name.as_str() == s && !s.contains("..") && !s.starts_with('/'));
        }
        if let Ok(tag) = s.parse::<Tag>() {
            prop_assert!(tag.as_str() == s && s.len() <= 128 && !s.contains('/'));
        }
        if let Ok(reference) = s.parse::<Reference>() {
            prop_assert_eq!(reference.to_string(), s.clone());
        }
        if check_object_name(&s).is_ok() {
            prop_assert!(!s.contains("..") && !s.starts_with('/') && !s.is_empty());
        }
    }

    #[test]
    fn tags_are_those_of_the_specification(s in "[a-zA-Z0-9_.:-]{0,131}") {
        let first = s.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_');
        prop_assert_eq!(s.parse::<Tag>().is_ok(), first && s.len() <= 128 && !s.contains(':'));
    }

    #[test]
    fn a_token_reads_back_as_itself(
        offset in any::<u64>(), content in proptest::collection::vec(any::<u8>(), 0..200), long in any::<bool>(),
        zone in "[a-z]{0,9}", backend in proptest::collection::vec(any::<u8>(), 0..99),
    ) {
        let mut hasher = Hasher::new(if long { Algorithm::Sha512 } else { Algorithm::Sha256 });
        hasher.update(&content);
        let token = UploadToken::new(offset, &hasher, backend).with_zone(zone);
        let read = UploadToken::decode(&token.encode().unwrap()).unwrap();
        prop_assert_eq!(&read, &token);
        prop_assert_eq!(read.hasher().unwrap().finalize(), hasher.finalize());
    }

    #[test]
    fn no_bytes_make_the_token_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = UploadToken::decode(&bytes) {
            prop_assert_eq!(error.kind(), ErrorKind::UploadUnknown);
        }
    }

    #[test]
    fn a_hash_put_aside_anywhere_ends_the_same(content in proptest::collection::vec(any::<u8>(), 0..500), at in any::<prop::sample::Index>()) {
        for algorithm in Algorithm::ALL {
            let at = at.index(content.len() + 1);
            let mut first = Hasher::new(algorithm);
            first.update(&content[..at]);
            let mut second = Hasher::restore(algorithm, &first.state()).unwrap();
            second.update(&content[at..]);
            prop_assert_eq!(second.finalize(), Digest::of(algorithm, &content));
        }
    }

    #[test]
    fn a_range_is_within_the_blob_and_as_asked(first in 0_u64..40, last in proptest::option::of(0_u64..40), n in 0_u64..40, size in 0_u64..30) {
        let wanted: Vec<u64> = (0..size).filter(|i| *i >= first && last.is_none_or(|last| *i <= last)).collect();
        let got = ByteRange::FromTo(first, last).resolve(size).map_or(Vec::new(), Iterator::collect);
        prop_assert_eq!(got, wanted);
        let wanted: Vec<u64> = (0..size).filter(|i| *i + n >= size).collect();
        let got = ByteRange::Last(n).resolve(size).map_or(Vec::new(), Iterator::collect);
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn no_bytes_make_the_manifest_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), content_type in proptest::option::of("\\PC{0,30}")) {
        let parsed = ParsedManifest::parse(content_type.as_deref(), &bytes);
        let object = bytes.iter().find(|c| !c.is_ascii_whitespace()).is_some_and(|c| *c == 0x7b);
        prop_assert!(parsed.is_err() || object);
    }

    #[test]
    fn manifests_with_odd_members_are_read_or_refused(
        version in prop::sample::select(vec!["2", "1", "\"2\"", "null", "-1"]),
        config in prop::sample::select(vec!["null", "{}", "[]", r#"["a","sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",0]"#, r#"{"digest":"sha256:x","size":1}"#, r#"{"digest":1}"#]),
        layers in prop::sample::select(vec!["null", "[]", "[1]", "{}", r#"[{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":-1}]"#]),
    ) {
        let text = format!(r#"{{"schemaVersion":{version},"config":{config},"layers":{layers}}}"#);
        let parsed = ParsedManifest::parse(Some("application/vnd.oci.image.manifest.v1+json"), text.as_bytes());
        prop_assert_eq!(parsed.unwrap_err().kind(), ErrorKind::ManifestInvalid);
    }
}

#[test]
fn a_manifest_nested_deeper_than_any_real_one_is_refused_without_a_stack_overflow() {
    let text = format!(r#"{{"schemaVersion":2,"x":{}{}}}"#, "[".repeat(2_000_000), "]".repeat(2_000_000));
    let error = ParsedManifest::parse(Some("application/vnd.oci.image.manifest.v1+json"), text.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ManifestInvalid);
}

#[test]
#[cfg(feature = "oci-spec")]
fn digests_convert_to_and_from_oci_spec() {
    for algorithm in Algorithm::ALL {
        let digest = Digest::of(algorithm, b"x");
        let theirs = oci_spec::image::Digest::from(digest);
        assert_eq!(theirs.to_string(), digest.to_string());
        assert_eq!(Digest::try_from(&theirs), Ok(digest));
    }
}
