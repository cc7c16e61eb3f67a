//! Which resource a path names.
//!
//! Repository names have slashes, so a path is split from its right end: the words that may stand there (`blobs`, `manifests`, `tags/list`, …) tell the
//! routes apart whatever the name is. No two routes fit one path. Each part is percent-decoded on its own, after splitting, so that an encoded slash
//! never moves a boundary; then it is parsed by the strict types of `registry-core`, which leaves nothing for path traversal.

use std::borrow::Cow;

use http::Method;
use registry_core::{Digest, ErrorKind, Reference, RepositoryName};

use crate::error::{Code, Failure};

/// The kind of a resource: the label of logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Base,
    Catalog,
    Tags,
    Referrers,
    Manifest,
    Blob,
    UploadStart,
    Upload,
    /// `/token`, which is beside the API.
    Token,
    Unknown,
}

impl Kind {
    pub(crate) const COUNT: usize = 10;

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::UploadStart => "upload-start",
            Self::Upload => "upload",
            Self::Token => "token",
            Self::Unknown => "unknown",
        }
    }

    /// What `Allow` says.
    pub(crate) const fn allow(self, read_only: bool) -> &'static str {
        match (self, read_only) {
            (Self::Manifest, false) => "GET, HEAD, PUT, DELETE",
            (Self::Blob, false) => "GET, HEAD, DELETE",
            (Self::UploadStart, false) => "POST",
            (Self::Upload, false) => "GET, HEAD, PATCH, PUT, DELETE",
            (Self::UploadStart, true) => "",
            (Self::Token, _) => "GET",
            _ => "GET, HEAD",
        }
    }

    pub(crate) fn allows(self, method: &Method, read_only: bool) -> bool {
        self.allow(read_only).split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// A path cut into its raw parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split<'a> {
    pub(crate) kind: Kind,
    name: &'a str,
    last: &'a str,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Base,
    Catalog,
    Tags(RepositoryName),
    Referrers(RepositoryName, Digest),
    Manifest(RepositoryName, Reference),
    Blob(RepositoryName, Digest),
    UploadStart(RepositoryName),
    /// The id is text of the client's: it may be anything of letters and digits.
    Upload(RepositoryName, String),
    Token,
}

impl Target {
    pub(crate) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog | Self::Token => None,
            Self::Tags(name)
            | Self::Referrers(name, _)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::UploadStart(name)
            | Self::Upload(name, _) => Some(name),
        }
    }
}

#[cfg(feature = "auth")]
impl Target {
    /// What of a repository it is: a tag, a digest, or the id of an upload.
    pub(crate) fn reference(&self) -> Option<String> {
        match self {
            Self::Manifest(_, reference) => Some(reference.to_string()),
            Self::Blob(_, digest) | Self::Referrers(_, digest) => Some(digest.to_string()),
            Self::Upload(_, id) => Some(id.clone()),
            _ => None,
        }
    }
}

/// Cuts a path.
pub(crate) fn split(path: &str) -> Split<'_> {
    let cut = |kind, name, last| Split { kind, name, last };
    let unknown = cut(Kind::Unknown, "", "");
    if path == "/token" {
        return cut(Kind::Token, "", "");
    }
    let Some(rest) = path.strip_prefix("/v2") else { return unknown };
    let Some(rest) = rest.strip_prefix('/') else { return if rest.is_empty() { cut(Kind::Base, "", "") } else { unknown } };
    match rest {
        "" => return cut(Kind::Base, "", ""),
        "_catalog" => return cut(Kind::Catalog, "", ""),
        _ => {}
    }
    let Some((head, last)) = rest.rsplit_once('/') else { return unknown };
    let Some((name, word)) = head.rsplit_once('/') else { return unknown };
    let split = match (word, last) {
        ("manifests", _) => cut(Kind::Manifest, name, last),
        ("referrers", _) => cut(Kind::Referrers, name, last),
        ("tags", "list") => cut(Kind::Tags, name, ""),
        ("blobs", "uploads") => cut(Kind::UploadStart, name, ""),
        ("blobs", _) => cut(Kind::Blob, name, last),
        ("uploads", _) => match name.rsplit_once('/') {
            Some((name, "blobs")) if last.is_empty() => cut(Kind::UploadStart, name, ""),
            Some((name, "blobs")) => cut(Kind::Upload, name, last),
            _ => unknown,
        },
        _ => unknown,
    };
    if split.kind != Kind::UploadStart && split.kind != Kind::Tags && split.last.is_empty() { unknown } else { split }
}

impl<'a> Split<'a> {
    /// The name as it was asked for, if it could be one. A path has no line breaks or spaces, and what stays encoded does no harm in a log.
    pub(crate) fn name_to_log(&self) -> &'a str {
        if self.name.len() <= RepositoryName::MAX_LEN { self.name } else { "" }
    }

    /// Parses the parts, as far as the method minds.
    pub(crate) fn target(&self, method: &Method) -> Result<Target, Failure> {
        let name = || -> Result<RepositoryName, Failure> {
            let bad = || Failure::new(Code::NameInvalid, registry_core::NameError::Repository.to_string());
            Ok(decode_name(self.name).ok_or_else(bad)?.parse::<RepositoryName>().map_err(registry_core::Error::from)?)
        };
        let digest = || -> Result<Digest, Failure> {
            let text = decode(self.last).ok_or_else(|| Failure::new(Code::DigestInvalid, "the path is not percent-encoded UTF-8"))?;
            Ok(text.parse::<Digest>().map_err(registry_core::Error::from)?)
        };
        Ok(match self.kind {
            Kind::Base => Target::Base,
            Kind::Catalog => Target::Catalog,
            Kind::Token => Target::Token,
            Kind::Tags => Target::Tags(name()?),
            Kind::Referrers => Target::Referrers(name()?, digest()?),
            Kind::Blob => Target::Blob(name()?, digest()?),
            Kind::Manifest => {
                let name = name()?;
                let push = method == Method::PUT;
                match decode(self.last).map(|text| text.parse::<Reference>()) {
                    Some(Ok(reference)) => Target::Manifest(name, reference),
                    Some(Err(error)) if push || error.kind() == ErrorKind::DigestInvalid => return Err(error.into()),
                    None if push => return Err(Failure::new(Code::ManifestInvalid, "the path is not percent-encoded UTF-8")),
                    // What can be no tag is the tag of no manifest: the conformance suite asks for `.INVALID_MANIFEST_NAME` and wants 404.
                    _ => return Err(Failure::new(Code::ManifestUnknown, "the repository has no such manifest")),
                }
            }
            Kind::UploadStart => Target::UploadStart(name()?),
            Kind::Upload => {
                let name = name()?;
                let sane = self.last.len() <= 128 && self.last.bytes().all(|c| c.is_ascii_alphanumeric());
                if !sane {
                    return Err(Failure::new(Code::BlobUploadUnknown, "there is no such upload"));
                }
                Target::Upload(name, self.last.to_owned())
            }
            Kind::Unknown => return Err(Failure::unknown_route()),
        })
    }
}

/// Decodes each part of a name on its own: an encoded slash belongs to no name.
fn decode_name(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut name = String::with_capacity(raw.len());
    for (index, part) in raw.split('/').enumerate() {
        let part = decode(part)?;
        if part.contains('/') {
            return None;
        }
        if index > 0 {
            name.push('/');
        }
        name.push_str(&part);
    }
    Some(Cow::Owned(name))
}

/// Percent-decodes; `None` if an escape is broken or the result is not UTF-8.
pub(crate) fn decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |c: u8| char::from(c).to_digit(16);
            let high = digit(bytes.next()?)?;
            let low = digit(bytes.next()?)?;
            out.push(u8::try_from(high << 4 | low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(path: &str) -> Target {
        split(path).target(&Method::GET).unwrap_or_else(|_| panic!("{path} is a route"))
    }

    fn kind(path: &str) -> Kind {
        split(path).kind
    }

    #[test]
    fn every_route_is_told_apart_whatever_words_the_name_has() {
        let digest = Digest::sha256(b"x");
        for name in
            ["a", "a/b/c", "blobs", "blobs/uploads", "manifests", "tags/list", "v2", "a/blobs/uploads/tags/list", "referrers/uploads"]
        {
            let repository: RepositoryName = name.parse().unwrap();
            assert_eq!(target(&format!("/v2/{name}/blobs/{digest}")), Target::Blob(repository.clone(), digest));
            assert_eq!(target(&format!("/v2/{name}/manifests/{digest}")), Target::Manifest(repository.clone(), digest.into()));
            assert_eq!(target(&format!("/v2/{name}/manifests/list")), Target::Manifest(repository.clone(), "list".parse().unwrap()));
            assert_eq!(target(&format!("/v2/{name}/referrers/{digest}")), Target::Referrers(repository.clone(), digest));
            assert_eq!(target(&format!("/v2/{name}/tags/list")), Target::Tags(repository.clone()));
            assert_eq!(target(&format!("/v2/{name}/blobs/uploads/")), Target::UploadStart(repository.clone()));
            assert_eq!(target(&format!("/v2/{name}/blobs/uploads")), Target::UploadStart(repository.clone()));
            assert_eq!(target(&format!("/v2/{name}/blobs/uploads/list")), Target::Upload(repository.clone(), "list".into()));
        }
    }

    #[test]
    fn the_base_and_the_catalog_are_no_repositories() {
        assert_eq!(target("/v2"), Target::Base);
        assert_eq!(target("/v2/"), Target::Base);
        assert_eq!(target("/v2/_catalog"), Target::Catalog);
    }

    #[test]
    fn other_paths_are_no_routes() {
        for path in [
            "",
            "/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/a/b",
            "/v2/tags/list",
            "/v2/a/tags",
            "/v2/a/tags/list/",
            "/v2/a/tags/lists",
            "/v2/a/manifests/",
            "/v2/a/blobs/",
            "/v2/blobs/uploads/",
            "/v2/a/uploads/x",
            "/v2/_catalog/",
            "/v2/manifests/latest",
        ] {
            assert_eq!(kind(path), Kind::Unknown, "{path}");
        }
    }

    #[test]
    fn path_traversal_is_an_invalid_name() {
        for path in [
            "/v2/../tags/list",
            "/v2/a/../b/tags/list",
            "/v2/a//b/tags/list",
            "/v2/%2e%2e/tags/list",
            "/v2/a%2fb/tags/list",
            "/v2/a%2f..%2fb/tags/list",
            "/v2//tags/list",
            "/v2/A/tags/list",
            "/v2/a%00/tags/list",
            "/v2/a%/tags/list",
            "/v2/a%zz/tags/list",
            "/v2/%ff/tags/list",
        ] {
            assert_eq!(split(path).target(&Method::GET).expect_err(path).code(), Code::NameInvalid, "{path}");
        }
        for path in ["/v2/a/blobs/..", "/v2/a/blobs/sha256:..%2f..", "/v2/a/blobs/sha256:notadigest"] {
            assert_eq!(split(path).target(&Method::GET).expect_err(path).code(), Code::DigestInvalid, "{path}");
        }
        assert_eq!(split("/v2/a/blobs/uploads/..").target(&Method::GET).expect_err("dots").code(), Code::BlobUploadUnknown);
    }

    #[test]
    fn what_can_be_no_tag_is_unknown_to_those_who_ask_for_it_and_invalid_to_those_who_push_it() {
        for last in [".INVALID_MANIFEST_NAME", "-x", "a%2Fb", "%ff", "%zz", &"t".repeat(129)] {
            let path = format!("/v2/a/manifests/{last}");
            for method in [Method::GET, Method::HEAD, Method::DELETE] {
                assert_eq!(split(&path).target(&method).expect_err(last).code(), Code::ManifestUnknown, "{method} {last}");
            }
            assert_eq!(split(&path).target(&Method::PUT).expect_err(last).code(), Code::ManifestInvalid, "{last}");
        }
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::PUT] {
            assert_eq!(split("/v2/a/manifests/sha256:0").target(&method).expect_err("short").code(), Code::DigestInvalid);
        }
    }

    #[test]
    fn an_encoded_colon_is_a_colon() {
        let digest = Digest::sha256(b"x");
        let encoded = digest.to_string().replace(':', "%3A");
        assert_eq!(target(&format!("/v2/a/blobs/{encoded}")), Target::Blob("a".parse().unwrap(), digest));
    }

    proptest! {
        #[test]
        fn no_path_panics(path in ".*") {
            let _ = split(&path).target(&Method::GET).is_ok();
            let _ = split(&format!("/v2/{path}")).target(&Method::PUT).is_ok();
        }

        #[test]
        fn a_target_has_the_parts_that_the_path_was_made_of(name in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,4}", tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}") {
            let repository: RepositoryName = name.parse().unwrap();
            prop_assert_eq!(target(&format!("/v2/{name}/manifests/{tag}")), Target::Manifest(repository, tag.parse().unwrap()));
        }

        #[test]
        fn encoding_any_byte_of_a_name_changes_nothing_but_slashes(name in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}", at in any::<prop::sample::Index>()) {
            let at = at.index(name.len());
            let byte = name.as_bytes()[at];
            let encoded = format!("/v2/{}%{byte:02X}{}/tags/list", &name[..at], &name[at + 1..]);
            let found = split(&encoded).target(&Method::GET);
            if byte == b'/' {
                prop_assert!(found.is_err());
            } else {
                prop_assert_eq!(found.ok(), Some(Target::Tags(name.parse().unwrap())));
            }
        }

        #[test]
        fn decoding_undoes_encoding(text in ".*") {
            let encoded: String = text.bytes().map(|c| format!("%{c:02x}")).collect();
            let decoded = decode(&encoded);
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }
    }
}
