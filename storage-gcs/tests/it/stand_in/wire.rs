//! What is asked, and the form of the answers.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use chrono::{DateTime, Utc};
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

/// A request. Names and values are decoded, except for the path that signatures are about.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) bucket: String,
    /// Empty if it is about the bucket.
    pub(super) key: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) type Answer = Result<Response, Refusal>;

impl Ask {
    pub(super) async fn read(request: Request) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let names = path.trim_start_matches('/');
        let (bucket, key) = names.split_once('/').unwrap_or((names, ""));
        let (bucket, key) = (decode(bucket)?, decode(key)?);
        let mut query = Vec::new();
        for pair in parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.push((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?));
        }
        let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|error| refuse(400, "IncompleteBody", error.to_string()))?;
        Ok(Self { method: parts.method, bucket, key, query, headers: parts.headers, body, path })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Their case does not matter: <https://cloud.google.com/storage/docs/authentication/signatures>.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A parameter that is a number.
    pub(super) fn number(&self, name: &str, default: usize) -> Result<usize, Refusal> {
        let value = self.param(name).map_or(Ok(default), str::parse);
        value.map_err(|_| refuse(400, "InvalidArgument", format!("{name} is no number.")))
    }
}

pub(super) fn decode(text: &str) -> Result<String, Refusal> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| refuse(400, "InvalidURI", "Couldn't parse the specified URI."))
}

/// An error. <https://cloud.google.com/storage/docs/xml-api/reference-status> lists the codes; few of Google's messages are known.
#[derive(Debug)]
pub(super) struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

pub(super) fn refuse(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into() }
}

/// What Google can do, and this cannot.
pub(super) fn unknown() -> Refusal {
    refuse(501, "NotImplemented", "The stand-in knows no such request.")
}

impl Refusal {
    pub(super) fn into_response(self) -> Response {
        let error = format!("<Error><Code>{}</Code><Message>{}</Message></Error>", self.code, escape(&self.message));
        let mut response = xml(&error);
        *response.status_mut() = self.status.try_into().unwrap();
        response
    }
}

pub(super) fn xml(document: &str) -> Response {
    let document = format!("<?xml version='1.0' encoding='UTF-8'?>{document}");
    Response::builder().header("content-type", "application/xml; charset=UTF-8").body(document.into()).unwrap()
}

/// With no body.
pub(super) fn empty(status: u16) -> Response {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, char| {
        match char {
            '<' | '>' | '&' | '"' | '\'' | '\0'..' ' => escaped += &format!("&#{};", u32::from(char)),
            char => escaped.push(char),
        }
        escaped
    })
}

pub(super) fn http_date(at: DateTime<Utc>) -> String {
    at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

pub(super) fn xml_date(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
