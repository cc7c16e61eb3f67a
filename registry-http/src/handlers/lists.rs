//! The tags of a repository, and `_catalog`.

use axum::response::Response;
use registry_core::metadata::Page;
use registry_core::{Registry, RepositoryName};
use serde::Serialize;

use super::{Paging, json, link_next};
use crate::access::Caller;
use crate::error::Failure;
use crate::query::{Escaped, Query};
use crate::request::Call;

#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: Vec<&'a str>,
}

#[derive(Serialize)]
struct Repositories<'a> {
    repositories: Vec<&'a str>,
}

pub(crate) async fn tags(call: &mut Call<'_>, repository: &RepositoryName) -> Result<Response, Failure> {
    let query = Query::parse(call.parts.uri.query())?;
    let paging = Paging::of(call, &query)?;
    let mut tags = call.app.registry.tags(repository, &paging.page()).await?;
    let more = paging.cut(&mut tags);
    let content = Tags { name: repository.as_str(), tags: tags.iter().map(registry_core::Tag::as_str).collect() };
    let mut response = json("application/json", &content);
    if let Some(last) = tags.last().filter(|_| more) {
        link_next(&mut response, call, &format!("/v2/{repository}/tags/list?n={}&last={}", paging.n, Escaped(last.as_str())));
    }
    Ok(response)
}

pub(crate) async fn catalog(call: &mut Call<'_>) -> Result<Response, Failure> {
    let query = Query::parse(call.parts.uri.query())?;
    let paging = Paging::of(call, &query)?;
    let mut names = if call.caller.may_see_all() {
        call.app.registry.repositories(&paging.page()).await?
    } else {
        visible(&call.app.registry, &call.caller, &paging).await?
    };
    let more = paging.cut(&mut names);
    let content = Repositories { repositories: names.iter().map(RepositoryName::as_str).collect() };
    let mut response = json("application/json", &content);
    if let Some(last) = names.last().filter(|_| more) {
        link_next(&mut response, call, &format!("/v2/_catalog?n={}&last={}", paging.n, Escaped(last.as_str())));
    }
    Ok(response)
}

/// Names read at a time where not all are shown.
const BATCH: u32 = 1000;

/// The page of those that the caller may see. Reads all the others on the way.
async fn visible(registry: &Registry, caller: &Caller, paging: &Paging) -> Result<Vec<RepositoryName>, Failure> {
    let Page { mut after, limit } = paging.page();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut seen = Vec::new();
    loop {
        let names = registry.repositories(&Page { after, limit: BATCH }).await?;
        let last = (names.len() == BATCH as usize).then(|| names.last().map(ToString::to_string)).flatten();
        seen.extend(names.into_iter().filter(|name| caller.may_see(name)));
        match last {
            Some(last) if seen.len() < limit => after = Some(last),
            _ => break,
        }
    }
    seen.truncate(limit);
    Ok(seen)
}
